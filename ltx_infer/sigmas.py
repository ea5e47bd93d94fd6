"""Noise levels to sample at, from 1 down to 0 (spec/model.md 8.1)."""

import math

import numpy as np

from ltx_models.flow import token_shift

# The 8 levels that the distilled checkpoints were trained on, and the 3 that refine.
DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
REFINE = (0.909375, 0.725, 0.421875, 0.0)
DEFAULT_TOKENS = 4096  # what the reference assumes wherever it does not count the tokens


def shifted(
    num_steps: int,
    *,
    num_tokens: int = DEFAULT_TOKENS,
    base_shift: float = 0.95,
    max_shift: float = 2.05,
    terminal: float | None = 0.1,
) -> tuple[float, ...]:
    """Evenly spaced levels, pushed towards noise for long sequences.

    The levels are stretched so that the last one above zero is ``terminal``, unless it is None.
    Raises ValueError for no steps.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    shift = math.exp(token_shift(num_tokens, base_shift=base_shift, max_shift=max_shift))
    even = np.linspace(1.0, 0.0, num_steps + 1)[:-1]
    sigmas = shift / (shift + (1 / even - 1))
    if terminal is not None and num_steps > 1:
        sigmas = 1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1])
    return (*sigmas.tolist(), 0.0)
