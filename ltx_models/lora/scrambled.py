"""Adapters whose factors were written as they lay in memory, and so with their values mixed up.

Some trainers on Macs gave safetensors >= 0.8.0 transposed arrays, of which it wrote the bytes
without regard to strides (spec/training.md part 3, row 1). Such a file loads, has the right sizes,
and teaches nothing. No value is lost: a factor (p, q) holds the bytes of its transpose (q, p).

What gives it away: inputs that are large are large for every row of lora_A, so rows of |A| are
correlated (0.005 to 0.04 in real adapters), and in a scrambled one they are not (0.001).
"""

from collections.abc import Sequence
from typing import cast

import mlx.core as mx
import numpy as np

NUM_LOOKED_AT = 32  # factors; more would only take longer
MIXED, TRUE = 0.002, 0.004  # correlations of rows: below the one, above the other
SURE = 6.0  # standard errors


def restored(factor: mx.array) -> mx.array:
    """The factor (p, q), lora_A or lora_B, of which the bytes of the transpose were written."""
    rows, columns = factor.shape
    return mx.contiguous(factor).reshape(columns, rows).T


def scrambled(factors: Sequence[mx.array]) -> bool:
    """Whether lora_A factors (rank, in) are mixed up, and would be right when ``restored``.

    False where it cannot be told: of rank 1, or not trained.
    """
    usable = [factor for factor in factors if factor.ndim == 2 and min(factor.shape) > 1]
    step = max(len(usable) // NUM_LOOKED_AT, 1)
    there, mended, weights = [], [], []
    for factor in usable[::step]:
        # Rows to one size, or their sizes would look like a correlation when they are mixed.
        x = factor.astype(mx.float32)
        x = x / mx.maximum(mx.sqrt(x.square().mean(axis=1, keepdims=True)), 1e-12)
        there.append(_row_correlation(x))
        mended.append(_row_correlation(restored(x)))
        rank, columns = x.shape
        weights.append(rank * (rank - 1) / 2 * columns)  # one over the variance
    if not weights:
        return False
    error = 1 / sum(weights) ** 0.5
    now, then = np.average(there, weights=weights), np.average(mended, weights=weights)
    return bool(now < max(MIXED, 3 * error) and then > max(TRUE, SURE * error))


def _row_correlation(x: mx.array) -> float:
    """The mean correlation of two rows of |x|, over all pairs."""
    x = mx.abs(x)
    x = x - x.mean(axis=1, keepdims=True)
    norms = mx.linalg.norm(x, axis=1, keepdims=True)
    x = x / mx.maximum(norms, 1e-12)
    total, count = x.sum(axis=0).square().sum(), len(x)
    return cast(float, ((total - count) / (count * (count - 1))).item())
