"""A contact sheet of a clip: frames at regular times, and the waveform of its sound below.

Pillow is imported when one is drawn.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ltx_infer.media.write import in_bytes

MOST_FRAMES, COLUMNS = 12, 4
LONGEST_SIDE = 320  # pixels of a frame on the sheet
GAP, LABEL = 6, 14  # pixels between frames, and of rows for their times
WAVE_HEIGHT = 48  # of one channel
BACKGROUND, INK, WAVE = (24, 24, 24), (200, 200, 200), (110, 170, 230)


class Shown(NamedTuple):
    """A frame of the sheet (H, W, 3), in bytes and small; its time in seconds."""

    pixels: np.ndarray
    time: float


def frame_numbers(num_frames: int) -> list[int]:
    """Which frames are shown: the first, the last, and others at regular times between them."""
    count = min(num_frames, MOST_FRAMES)
    return sorted({round(n) for n in np.linspace(0, num_frames - 1, count)})


def kept_for_sheet(
    chunks: Iterable[np.ndarray], kept: list[Shown], *, num_frames: int, fps: float
) -> Iterator[np.ndarray]:
    """Pass on chunks (F, H, W, 3) of a clip of ``num_frames``, and keep small those to be shown."""
    wanted, done = set(frame_numbers(num_frames)), 0
    for chunk in chunks:
        for index, frame in enumerate(chunk, start=done):
            if index in wanted:
                kept.append(Shown(_small(frame), index / fps))
        done += len(chunk)
        yield chunk


def contact_sheet(
    shown: Sequence[Shown], below: Callable[[int], np.ndarray] | None = None, *, label: str = ""
) -> np.ndarray:
    """The sheet (H, W, 3) in bytes: ``shown`` in rows with their times, and a strip below them.

    ``below`` gives the strip (h, w, 3) for a width w; ``label`` is written under it.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415

    columns = min(len(shown), COLUMNS)
    rows = -(-len(shown) // COLUMNS)
    height, width = shown[0].pixels.shape[:2] if shown else (0, 0)
    total = columns * (width + GAP) + GAP if shown else COLUMNS * LONGEST_SIDE
    strip = np.zeros((0, 0, 3), np.uint8) if below is None else below(total - 2 * GAP)
    top = rows * (height + LABEL + GAP) + GAP
    sheet = Image.new("RGB", (total, top + (len(strip) and len(strip) + LABEL + GAP)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, frame in enumerate(shown):
        left = GAP + number % COLUMNS * (width + GAP)
        upper = GAP + number // COLUMNS * (height + LABEL + GAP)
        sheet.paste(Image.fromarray(frame.pixels), (left, upper))
        draw.text((left, upper + height + 1), f"{frame.time:.2f} s", fill=INK)
    if len(strip):
        sheet.paste(Image.fromarray(strip), (GAP, top))
        draw.text((GAP, top + len(strip) + 1), label, fill=INK)
    return np.asarray(sheet)


def with_sound(
    shown: Sequence[Shown], samples: np.ndarray | None, *, rate: int | None, seconds: float | None
) -> np.ndarray:
    """A contact sheet with the waveform of the sound (channels, samples) below, if there is one.

    Of the sound the first ``seconds`` are drawn, as long as the picture is; None: all of it.
    """
    if samples is None or rate is None:
        return contact_sheet(shown)
    if seconds is not None:
        samples = samples[:, : round(seconds * rate)]
    length = samples.shape[1] / rate
    return contact_sheet(
        shown, lambda width: waveform(samples, width=width), label=f"sound, {length:.2f} s"
    )


def waveform(samples: np.ndarray, *, width: int) -> np.ndarray:
    """Sound (channels, samples) in [-1, 1] as a picture (H, width, 3) in bytes.

    The channels lie one below the other; a column spans the lowest to the highest of its samples.
    """
    edges = np.linspace(0, samples.shape[1], width + 1).astype(int)
    heights = np.arange(WAVE_HEIGHT)[:, None]
    lanes = []
    for channel in samples:
        parts = [channel[a : max(b, a + 1)] for a, b in pairwise(edges)]
        spans = np.array([(p.min(), p.max()) if p.size else (0, 0) for p in parts])
        low, high = ((1 - spans.clip(-1, 1)) / 2 * (WAVE_HEIGHT - 1)).round().T[::-1]
        lanes.append((heights >= low) & (heights <= high))
    inked = np.concatenate(lanes)[..., None]
    return np.where(inked, WAVE, BACKGROUND).astype(np.uint8)


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame in bytes with at most ``LONGEST_SIDE`` pixels a side."""
    from PIL import Image  # noqa: PLC0415

    image = Image.fromarray(np.ascontiguousarray(in_bytes(frame[None])[0]))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image)
