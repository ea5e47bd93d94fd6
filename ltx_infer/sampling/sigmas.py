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
    # In float32 and in the reference's order: a sigma's last bit is 6e-5 of the angle that its
    # timestep has, which guidance multiplies into something that can be heard.
    one = np.float32(1)
    odds = np.float32(shift) + (one / _falling(num_steps) - one)
    sigmas = (one / odds) * np.float32(shift)
    if terminal is not None and num_steps > 1:
        sigmas = one - (one - sigmas) / ((one - sigmas[-1]) / np.float32(1 - terminal))
    return (*sigmas.tolist(), 0.0)


def _falling(count: int) -> np.ndarray:
    """``count`` even levels from 1 down, 0 left out, each rounded once from the nearer end."""
    step, index = np.float64(np.float32(-1 / count)), np.arange(count)
    levels = np.where(index < (count + 1) // 2, 1 + step * index, -step * (count - index))
    return levels.astype(np.float32)
