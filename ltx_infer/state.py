"""One stream at the start of a stage: its tokens, what is known of them, and noise.

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

Noise = Callable[[tuple[int, ...]], mx.array]  # a shape to standard normal float32 values


class State(NamedTuple):
    """A stream's tokens (spec/model.md 8.2). Conditions may have put more behind the clip's own."""

    tokens: mx.array  # (B, T, C): what to start from, before noise
    clean: mx.array  # (B, T, C): what is given
    denoise_mask: np.ndarray  # (B, T): 1 where generated, 0 where given
    positions: np.ndarray  # (B, axes, T, 2)
    num_tokens: int  # of the clip itself; those behind are cut off after sampling
    attention_mask: np.ndarray | None = None  # (B, T, T), weights in [0, 1]
    frozen: bool = False  # given as a whole, and its noise level is 0


def free_state(tokens: mx.array, positions: np.ndarray) -> State:
    """A stream of which nothing is given: all of ``tokens`` (B, T, C) are generated."""
    tokens, mask = tokens.astype(mx.float32), np.ones(tokens.shape[:2], np.float32)
    return State(tokens, tokens, mask, positions, tokens.shape[1])


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
    return blend(state, state.tokens + (noise - state.tokens) * scale)


def blend(state: State, tokens: mx.array) -> mx.array:
    """Tokens where they are generated, the clean ones where they are given."""
    mask = mx.array(state.denoise_mask)[..., None]
    return tokens * mask + state.clean * (1 - mask)
