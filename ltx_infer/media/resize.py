"""Pictures to the size of a clip and to the values that the VAE takes (spec/model.md part 9).

Letters: B batch, C channels, F frames, H and W height and width.
"""

from collections.abc import Iterable
from math import ceil

import numpy as np

Place = tuple[float, float]  # of a cut: which part of the spare height and width lies before it
MIDDLE: Place = (0.5, 0.5)


def cover(picture: np.ndarray, *, height: int, width: int, place: Place = MIDDLE) -> np.ndarray:
    """A picture (H, W, C) resized until it covers (height, width) and cut to its middle; float32.

    Or to another ``place``. Bilinear between the four nearest pixels also where it gets smaller, as
    the reference does: the networks learnt from such pictures.
    """
    scale = max(height / picture.shape[0], width / picture.shape[1])
    above, below, down = _neighbours(picture.shape[0], height, scale=scale, place=place[0])
    left, right, across = _neighbours(picture.shape[1], width, scale=scale, place=place[1])
    upper, lower = picture[above].astype(np.float32), picture[below].astype(np.float32)
    rows = upper + (lower - upper) * down[:, None, None]
    return rows[:, left] + (rows[:, right] - rows[:, left]) * across[:, None]


def _neighbours(
    source: int, target: int, *, scale: float, place: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``target`` pixels the two between which it lies, and how near to the second.

    In float32, because half a thousandth of a pixel shows in the comparison with the reference.
    """
    covered = ceil(source * scale)
    pixels = np.arange(target, dtype=np.float32) + int((covered - target) * place)
    places = np.float32(source / covered) * (pixels + np.float32(0.5)) - np.float32(0.5)
    places = places.clip(0, source - 1)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, source - 1), places - np.floor(places)


def to_pixels(
    frames: Iterable[np.ndarray], *, height: int, width: int, place: Place = MIDDLE
) -> np.ndarray:
    """Frames (H, W, 3) in bytes to (1, 3, F, height, width), float32 in [-1, 1].

    Frames are taken one by one, so that only the resized ones are held. Raises ValueError if
    there are none.
    """
    half = np.float32(127.5)
    fitted = [cover(frame, height=height, width=width, place=place) / half - 1 for frame in frames]
    return np.stack([frame.transpose(2, 0, 1) for frame in fitted], axis=1)[None]


def temporal_subsample(video: np.ndarray, *, factor: int) -> np.ndarray:
    """Of a video (B, C, F, H, W) frame 0, then every ``factor``-th beginning with 1 (part 9).

    So 8k+1 frames become 8k/factor+1. Raises ValueError for a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"a video cannot be subsampled by {factor}")
    return video[:, :, [0, *range(1, video.shape[2], factor)]]
