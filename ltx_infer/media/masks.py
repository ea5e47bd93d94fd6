"""Masks: which part of a given video is to be made anew, and room around it (spec/model.md part 9).

A mask is 1 where something is generated and 0 where the video is kept.
Letters: B batch, F frames, H and W height and width.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltx_infer.media.images import is_still, read_image
from ltx_infer.media.resize import MIDDLE, Place, cover, to_pixels
from ltx_infer.media.video import stream_frames
from ltx_models.errors import UserError


class Padding(NamedTuple):
    """Pixels of the clip on each side of a video."""

    left: int
    top: int
    right: int
    bottom: int


def read_mask(
    path: Path,
    *,
    num_frames: int,
    height: int,
    width: int,
    fps: float | Fraction | None = None,
    place: Place = MIDDLE,
) -> np.ndarray:
    """A mask (1, 1, num_frames, height, width), float32 in [0, 1], from a picture or a video.

    White is 1. It is resized and cut, at ``place``, like the video that it belongs to; a picture
    holds for every frame. Raises UserError for a video that is shorter, and for what cannot be
    read.
    """
    still = is_still(path)
    frames = [read_image(path)] if still else stream_frames(path, fps=fps)
    masks = []
    for frame in frames:
        grey = frame.mean(axis=2, keepdims=True)
        masks.append(cover(grey, height=height, width=width, place=place))
        if len(masks) == num_frames:
            break
    if still:
        masks *= num_frames
    if len(masks) < num_frames:
        raise UserError(f"{path}: the mask has {len(masks)} frames, the clip {num_frames}")
    return np.stack(masks).transpose(3, 0, 1, 2)[None] / np.float32(255)


def token_weights(mask: np.ndarray, *, grid: tuple[int, int, int]) -> np.ndarray:
    """A mask (B, 1, F, H, W) as one weight a token (B, f*h*w) of a latent ``grid`` (f, h, w).

    The mean over the pixels of a token; the first latent frame is frame 0, each other the mean of
    (F-1)/(f-1) frames (part 9). With f = 1 the frames after frame 0 are not looked at. Raises
    ValueError if (F-1)/(f-1) is not a whole number.
    """
    frames, rows, columns = grid
    if frames == 1:
        mask = mask[:, :, :1]
    rest = mask.shape[2] - 1
    group = rest // max(frames - 1, 1)
    if group * (frames - 1) != rest:
        raise ValueError(f"{mask.shape[2]} frames do not make {frames} latent frames")
    down = _mean_of_parts(mask.shape[3], rows)
    across = _mean_of_parts(mask.shape[4], columns)
    small = down @ mask[:, 0] @ across.T
    if group:
        later = small[:, 1:].reshape(len(mask), frames - 1, group, rows, columns).mean(axis=2)
        small = np.concatenate([small[:, :1], later], axis=1)
    return small.reshape(len(mask), -1)


def _mean_of_parts(num_pixels: int, num_parts: int) -> np.ndarray:
    """A matrix (num_parts, num_pixels) that takes means; parts overlap where it does not divide."""
    parts = np.zeros((num_parts, num_pixels), np.float32)
    for i, row in enumerate(parts):
        start, stop = i * num_pixels // num_parts, -(-(i + 1) * num_pixels // num_parts)
        row[start:stop] = 1 / (stop - start)
    return parts


def pad_video(
    frames: Iterable[np.ndarray], *, padding: Padding, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (H, W, 3) in bytes in a clip's pixels (1, 3, F, height, width) with room around them.

    The frames are fitted into what the padding leaves. The room holds the colours of their edge,
    so that the VAE sees no border that is not there; the second array is its mask, (1, 1, F,
    height, width). Raises UserError if the padding leaves no room for the video.
    """
    rows, columns = (padding.top, padding.bottom), (padding.left, padding.right)
    inner_height, inner_width = height - sum(rows), width - sum(columns)
    if inner_height < 1 or inner_width < 1:
        raise UserError(
            f"--pad {','.join(map(str, padding))} leaves no room for the video "
            f"in a clip of {width}x{height}"
        )
    inner = to_pixels(frames, height=inner_height, width=inner_width)
    around = ((0, 0), (0, 0), (0, 0), rows, columns)
    kept = np.zeros_like(inner[:, :1])
    return np.pad(inner, around, mode="edge"), np.pad(kept, around, constant_values=1)
