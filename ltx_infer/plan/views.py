"""Where an operation's result lies: in the buffer of an input, or in one of its own.

Strides are followed by numpy, on arrays that have them and no memory. What an operation copies for
itself, as a product does with what is not in order, is known here, too.
"""

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

View = np.ndarray  # of single bytes, so that its strides count values

COPIES_LIMIT = 16384  # bytes that a buffer may be larger than what is put into it


@lru_cache(maxsize=4096)
def whole(shape: tuple[int, ...]) -> View:
    """An array in order, of any size, that takes no memory."""
    strides, step = [], 1
    for side in reversed(shape):
        strides.insert(0, step)
        step *= side
    return _strided(shape, strides)


def _strided(shape: Any, strides: Any) -> View:
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), tuple(shape), tuple(strides))


def _reshape(x: View, shape: Any) -> View | None:
    """The same values in another shape, where that needs no copy."""
    if x.size == 0:
        return None
    try:
        return np.reshape(x, tuple(shape), copy=False)
    except ValueError:
        return None


def _flatten(x: View, start: int, end: int) -> View | None:
    shape = x.shape
    return _reshape(x, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def _unflatten(x: View, axis: int, sides: Any) -> View | None:
    shape = x.shape
    return _reshape(x, (*shape[:axis], *sides, *shape[axis + 1 :]))


def _slice(x: View, start: Any, stop: Any, steps: Any) -> View | None:
    parts = tuple(slice(a, b, c) for a, b, c in zip(start, stop, steps, strict=True))
    return x[parts] if min(steps, default=1) > 0 else None


VIEWS: dict[str, Callable[..., View | None]] = {
    "Broadcast": lambda x, shape: np.broadcast_to(x, shape),
    "Transpose": lambda x, axes: x.transpose(axes),
    "ExpandDims": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unflatten": _unflatten,
    "AsStrided": lambda _x, shape, strides, _offset: _strided(shape, strides),
    "Depends": lambda x: x,
    "StopGradient": lambda x: x,
}


def split(x: View, indices: Any, axis: int) -> list[View]:
    """The parts of an array along an axis, which all lie in its buffer."""
    return np.split(x, list(indices), axis)


def in_order(x: View) -> bool:
    """Whether values follow each other in memory as in the array."""
    return bool(x.flags.c_contiguous)


def extent(x: View) -> int:
    """Values from the first to the last one in memory; of a broadcast number that is 1."""
    pairs = zip(x.shape, x.strides, strict=True)
    return 1 + sum((side - 1) * stride for side, stride in pairs) if x.size else 0


def matrix_in_order(x: View) -> bool:
    """Whether a product takes the matrices in x, or their transposes, as they lie."""
    rows, columns = x.shape[-2:]
    down, along = x.strides[-2:]
    plain = along == 1 and (down == columns or rows == 1)
    turned = down == 1 and (along == rows or columns == 1)
    return plain or turned
