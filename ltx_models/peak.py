"""The most memory that MLX held during a part of the work, also where parts lie within parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx


@dataclass(eq=False)
class Peak:
    """The most bytes that were held at once since ``begin``, as of the last look."""

    num_bytes: int = 0


_open: list[Peak] = []  # MLX keeps one peak for the process, so these share it


def begin() -> Peak:
    """Measure from now on."""
    look()
    peak = Peak(mx.get_active_memory())
    _open.append(peak)
    return peak


def look() -> None:
    """Bring all that is measured up to date; MLX's own peak begins anew."""
    held = max(mx.get_peak_memory(), mx.get_active_memory())
    mx.reset_peak_memory()
    for peak in _open:
        peak.num_bytes = max(peak.num_bytes, held)


def end(peak: Peak) -> int:
    """The bytes of a peak, which is measured no longer; a second call gives them again."""
    if peak in _open:
        look()
        _open.remove(peak)
    return peak.num_bytes


@contextmanager
def measured() -> Iterator[Peak]:
    """Measure a block."""
    peak = begin()
    try:
        yield peak
    finally:
        end(peak)
