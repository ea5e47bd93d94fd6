"""One stream at the start of a stage: its tokens, what is known of them, and noise.

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

Noise = Callable[[tuple[int, ...]], mx.array]  # a shape to standard normal float32 values
Tokens = tuple[mx.array, ...]  # (video,), (audio,) or (video, audio), each (B, T, C) float32
Blend = Callable[[Tokens], Tokens]  # puts what is given back into the tokens of every stream


class State(NamedTuple):
    """A stream's tokens (spec/model.md 8.2). Conditions may have put more behind the clip's own."""

    tokens: mx.array  # (B, T, C): what to start from, before noise
    clean: mx.array  # (B, T, C): what is given
    denoise_mask: np.ndarray  # (B, T): 1 where generated, 0 where given
    positions: np.ndarray  # (B, axes, T, 2)
    num_tokens: int  # of the clip itself; those behind are cut off after sampling
    attention_mask: np.ndarray | None = None  # (B, T, T), weights in [0, 1]
    frozen: bool = False  # given as a whole, and its noise level is 0
    from_noise: bool = False  # though given, it starts as noise; see ``freeze``


def free_state(tokens: mx.array, positions: np.ndarray) -> State:
    """A stream of which nothing is given: all of ``tokens`` (B, T, C) are generated."""
    tokens, mask = tokens.astype(mx.float32), np.ones(tokens.shape[:2], np.float32)
    return State(tokens, tokens, mask, positions, tokens.shape[1])


def freeze(state: State, *, from_noise: bool = False) -> State:
    """The stream as it is, given as a whole: nothing of it is generated (spec/model.md part 9).

    With ``from_noise`` the other stream sees it come out of noise as sampling goes on: so retake
    does it in the reference with the stream that it keeps, audio-to-video does not.
    """
    mask = np.zeros_like(state.denoise_mask)
    return state._replace(denoise_mask=mask, frozen=True, from_noise=from_noise)


def noise_level(state: State, sigma: float) -> float:
    """The stream's own noise level at a step: none where it is frozen."""
    return 0.0 if state.frozen else sigma


def own_tokens(state: State, tokens: mx.array) -> mx.array:
    """Those of ``tokens`` (B, T, C) that are the clip's, without what conditions appended."""
    return tokens[:, : state.num_tokens]


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
    return mixed if state.from_noise else _blend(_mask(state), mixed, state.clean)


def blender(states: Sequence[State]) -> Blend:
    """Tokens of all streams in their order: the clean ones where they are given, bit by bit."""
    masks = [_mask(state) for state in states]

    def blend(tokens: Tokens) -> Tokens:
        parts = zip(masks, tokens, states, strict=True)
        return tuple(_blend(mask, x, state.clean) for mask, x, state in parts)

    return blend


def _mask(state: State) -> mx.array:
    return mx.array(state.denoise_mask)[..., None]


def _blend(mask: mx.array, tokens: mx.array, clean: mx.array) -> mx.array:
    return mx.where(mask > 0, tokens * mask + clean * (1 - mask), clean)
