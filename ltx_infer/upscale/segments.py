"""A clip of any length in parts that overlap, and the parts put together again.

So the memory that it takes is that of a part. Frames are (H, W, 3) in bytes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

# The causal VAE makes its first latent of one frame, and each further one of eight. A part begins
# at a multiple of eight of the one before it, so that their common latents are of the same frames.
SIZE, OVERLAP = 97, 25


class Segment(NamedTuple):
    """Some frames of a clip; the last ``num_shared`` of them are the next one's first ones."""

    frames: list[np.ndarray]
    num_shared: int


class Part(NamedTuple):
    """A segment after work on it: chunks of frames, of which the first ``num_frames`` count."""

    chunks: Iterator[np.ndarray]
    num_frames: int
    num_shared: int


def segments(frames: Iterable[np.ndarray]) -> Iterator[Segment]:
    """Parts of SIZE frames, the last of fewer; no more frames are held than one part has."""
    held: list[np.ndarray] = []
    for frame in frames:
        if len(held) == SIZE:
            yield Segment(held, OVERLAP)
            held = held[-OVERLAP:]
        held.append(frame)
    if held:
        yield Segment(held, 0)


def joined(parts: Iterable[Part]) -> Iterator[np.ndarray]:
    """The frames of all parts, each once, those that two parts share faded from one to the other.

    The first frame that is shared is that of the earlier part alone.
    """
    held: list[np.ndarray] = []
    for part in parts:
        kept: list[np.ndarray] = []
        for number, frame in enumerate(_counted(part)):
            shown = frame
            if number < len(held):
                shown = _mixed(held[number], frame, share=number / len(held))
            if number < part.num_frames - part.num_shared:
                yield shown
            else:
                kept.append(shown)
        held = kept


def _counted(part: Part) -> Iterator[np.ndarray]:
    num_left = part.num_frames
    for chunk in part.chunks:
        yield from chunk[:num_left]
        num_left -= len(chunk)
        if num_left <= 0:
            return


def _mixed(before: np.ndarray, after: np.ndarray, *, share: float) -> np.ndarray:
    mixed = before + np.float32(share) * (after.astype(np.float32) - before)
    return np.rint(mixed).astype(np.uint8)


def padded(frames: list[np.ndarray], *, time: int, space: int) -> np.ndarray:
    """Frames as the VAE takes them: (1, 3, F, H, W), float32 in [-1, 1].

    The last frame, row and column are repeated until F is a multiple of ``time`` plus 1, and H and
    W are multiples of ``space``.
    """
    height, width, _ = frames[0].shape
    pixels = np.pad(
        np.stack(frames),
        [(0, -(len(frames) - 1) % time), (0, -height % space), (0, -width % space), (0, 0)],
        mode="edge",
    )
    scaled = pixels.transpose(3, 0, 1, 2)[None].astype(np.float32)
    scaled /= 127.5  # in place: it may be a gigabyte
    scaled -= 1
    return scaled
