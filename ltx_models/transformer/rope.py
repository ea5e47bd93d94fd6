"""Split rotary position embedding (spec/model.md 3.5).

Tables are built with numpy on the CPU: angles reach 15,700 rad, where a GPU's fast sine and another
order of the float32 operations both show in the output.
"""

from collections.abc import Sequence
from typing import Literal

import mlx.core as mx
import numpy as np

Rope = tuple[mx.array, mx.array]  # cos and sin, each (B, H, T, D / 2)
Precision = Literal["float32", "float64"]


def apply_rope(x: mx.array, rope: Rope) -> mx.array:
    """Rotate the first half of every head of x (B, H, T, D) against its second half."""
    cos, sin = rope
    first, second = mx.split(x, 2, axis=-1)
    return mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rope_table(
    positions: np.ndarray,
    *,
    dim: int,
    num_heads: int,
    theta: float,
    max_pos: Sequence[float],
    precision: Precision,
) -> Rope:
    """Tables for heads cut out of one vector of ``dim`` channels.

    ``positions`` is (B, axes, T) float32, in the units of ``max_pos``, which has one entry an
    axis. ``precision`` is that of the frequency grid; angles are float32. Frequencies are
    laid out one after the other with the axes within each, and padded in front with angle 0.
    """
    num_axes = len(max_pos)
    grid = _frequencies(dim // (2 * num_axes), theta, precision)
    scale = np.asarray(max_pos, np.float32)[:, None]
    fractions = positions.astype(np.float32) / scale * np.float32(2) - np.float32(1)  # (B, axes, T)
    angles = grid[:, None] * fractions.transpose(0, 2, 1)[:, :, None, :]  # (B, T, grid, axes)
    angles = angles.reshape(*angles.shape[:2], -1)

    missing = dim // 2 - angles.shape[-1]
    angles = np.pad(angles, ((0, 0), (0, 0), (missing, 0)))
    heads = angles.reshape(*angles.shape[:2], num_heads, -1).transpose(0, 2, 1, 3)
    return mx.array(np.cos(heads)), mx.array(np.sin(heads))


def _frequencies(count: int, theta: float, precision: Precision) -> np.ndarray:
    """Theta to the powers 0 to 1, times pi / 2; (count,) float32."""
    if precision == "float64":
        return (theta ** np.linspace(0.0, 1.0, count) * (np.pi / 2)).astype(np.float32)
    # As torch.linspace does it in float32: from 0 up to the middle and from 1 down to it, in steps
    # that are rounded, as is each exponent, power and product. An angle is up to 15,700 times that.
    index = np.arange(count)
    step = np.float64(np.float32(1 / max(count - 1, 1)))
    exponents = np.where(index < max(count // 2, 1), step * index, 1 - step * (count - 1 - index))
    powers = (theta ** exponents.astype(np.float32).astype(np.float64)).astype(np.float32)
    return powers * np.float32(np.pi / 2)
