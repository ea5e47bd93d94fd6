"""One stage of sampling: tokens with what is known of them, the model, and the loop over sigmas.

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.samplers import Denoise, Tokens, euler
from ltx_models.flow import denoised
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Modality, Prepared, Transformer
from ltx_models.transformer.timestep import Timesteps, distinct

Noise = Callable[[tuple[int, ...]], mx.array]  # a shape to standard normal float32 values


class State(NamedTuple):
    """One stream's tokens at the start of a stage (spec/model.md 8.2)."""

    tokens: mx.array  # (B, T, C): what to start from, before noise
    clean: mx.array  # (B, T, C): what is given
    denoise_mask: np.ndarray  # (B, T): 1 where generated, 0 where given
    positions: np.ndarray  # (B, axes, T, 2)


def free_state(tokens: mx.array, positions: np.ndarray) -> State:
    """A stream of which nothing is given: all of ``tokens`` (B, T, C) are generated."""
    mask = np.ones(tokens.shape[:2], np.float32)
    return State(tokens.astype(mx.float32), mx.zeros_like(tokens), mask, positions)


def seeded_noise(seed: int) -> Noise:
    """The noise of a seed: draw after draw, each from the next key."""
    key = mx.random.key(seed)

    def draw(shape: tuple[int, ...]) -> mx.array:
        nonlocal key
        key, subkey = mx.random.split(key)
        return mx.random.normal(shape, key=subkey)

    return draw


def add_noise(state: State, noise: mx.array, scale: float) -> mx.array:
    """Mix noise into the tokens by ``scale``, and given tokens back in by the mask."""
    mixed = state.tokens + (noise - state.tokens) * scale
    return _blend(state, mixed)


def sample(
    model: Transformer,
    states: Mapping[StreamName, State],
    contexts: Mapping[StreamName, mx.array],
    sigmas: Sequence[float],
    *,
    noise: Noise,
    noise_scale: float = 1.0,
) -> Iterator[dict[StreamName, mx.array]]:
    """Yield the tokens of each stream after every step, evaluated.

    ``noise`` is asked once a stream, video first. ``noise_scale`` is 1 from nothing, and the first
    sigma where a stage refines.
    """
    names = list(states)
    prepared: dict[StreamName, Prepared] = {
        name: model.prepare(name, positions=state.positions, context=contexts[name])
        for name, state in states.items()
    }
    start = tuple(add_noise(s, noise(s.tokens.shape), noise_scale) for s in states.values())
    for tokens in euler(_denoiser(model, states, prepared), start, sigmas):
        mx.eval(tokens)
        yield dict(zip(names, tokens, strict=True))


def _denoiser(
    model: Transformer,
    states: Mapping[StreamName, State],
    prepared: Mapping[StreamName, Prepared],
) -> Denoise:
    """The model as a function of noisy tokens; given tokens are put back into what it predicts."""
    levels = {name: distinct(state.denoise_mask) for name, state in states.items()}

    def denoise(x: Tokens, sigma: float) -> Tokens:
        inputs = {
            name: Modality(
                latents=tokens,
                sigma=mx.full(tokens.shape[:1], sigma),
                timesteps=Timesteps(levels[name].values * sigma, levels[name].which),
                prepared=prepared[name],
            )
            for name, tokens in zip(states, x, strict=True)
        }
        velocities = model(inputs.get("video"), inputs.get("audio"))
        given = dict(zip(("video", "audio"), velocities, strict=True))
        return tuple(
            _blend(state, _clean(inputs[name], given[name])) for name, state in states.items()
        )

    return denoise


def _clean(modality: Modality, velocity: mx.array | None) -> mx.array:
    assert velocity is not None  # the model answers for every stream it is given
    return denoised(modality.latents, velocity, modality.timesteps.per_token()[..., None])


def _blend(state: State, tokens: mx.array) -> mx.array:
    mask = mx.array(state.denoise_mask)[..., None]
    return tokens * mask + state.clean * (1 - mask)
