"""One stage of sampling: streams, the model, and the loop over sigmas.

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Iterator, Mapping, Sequence

import mlx.core as mx

from ltx_infer.samplers import Denoise, Tokens, euler
from ltx_infer.state import Noise, State, add_noise, blend
from ltx_models.flow import denoised
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Modality, Prepared, Transformer
from ltx_models.transformer.timestep import Timesteps, distinct


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
            blend(state, _clean(inputs[name], given[name])) for name, state in states.items()
        )

    return denoise


def _clean(modality: Modality, velocity: mx.array | None) -> mx.array:
    assert velocity is not None  # the model answers for every stream it is given
    return denoised(modality.latents, velocity, modality.timesteps.per_token()[..., None])
