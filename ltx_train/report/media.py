"""Pictures, clips and sound in the page itself."""

import base64
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from ltx_infer.media.write import Sound, write_clip
from ltx_train.report.page import Html, note, number, tag

QUALITY = 82  # of JPEG
WAVE_WIDTH, WAVE_HEIGHT = 600, 22  # of one channel
SILENT = 1e-4  # -80 dB, as a peak


class Still(NamedTuple):
    """A frame as a page has it: its JPEG, and its size in pixels."""

    src: str
    width: int
    height: int


def fitted(frame: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """A frame (H, W, 3) in bytes as large as fits into a box; both sides are even."""
    scale = min(height / frame.shape[0], width / frame.shape[1])
    size = [max(round(side * scale) // 2 * 2, 2) for side in (frame.shape[1], frame.shape[0])]
    return np.asarray(Image.fromarray(frame).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def still(frame: np.ndarray) -> Still:
    """A frame (H, W, 3) in bytes, as JPEG."""
    file = BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, optimize=True)
    height, width, _ = frame.shape
    return Still(_data_uri(file.getvalue(), "image/jpeg"), width, height)


def picture(shown: Still, *, alt: str) -> Html:
    """A frame in the page."""
    return tag("img", alt=alt, loading="lazy", **shown._asdict())


def strip(frames: Sequence[np.ndarray], *, alt: str, gap: int = 2) -> Html:
    """Frames of one size (H, W, 3) in bytes side by side, as one picture."""
    height = frames[0].shape[0]
    between = np.full((height, gap, 3), 128, np.uint8)
    parts = [part for frame in frames for part in (between, frame)]
    return picture(still(np.concatenate(parts[1:], axis=1)), alt=alt)


def clip(frames: np.ndarray, *, fps: float | Fraction, sound: Sound | None = None) -> Html:
    """Frames (F, H, W, 3) in bytes as a player of H.264; H and W are even.

    It starts by itself while it is seen, without its sound until that is turned on.
    """
    audio, rate = (None, None) if sound is None else sound
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, [frames], fps=fps, audio=audio, sampling_rate=rate)
        return player(path.read_bytes(), first=still(frames[0]))


def player(data: bytes, *, first: Still) -> Html:
    """An mp4 as a player, muted and repeated; its first frame stands for it."""
    return tag(
        "video",
        src=_data_uri(data, "video/mp4"),
        controls=True,
        loop=True,
        muted=True,
        playsinline=True,
        poster=first.src,
        preload="none",
        width=first.width,
        height=first.height,
    )


def listen(data: bytes) -> Html:
    """A WAV as a player."""
    return tag("audio", src=_data_uri(data, "audio/wav"), controls=True, preload="metadata")


def waveform(sound: Sound, *, name: str) -> Html:
    """The outline of stereo samples (2, samples), a lane a channel, as tall as its peak allows.

    Length, rate and peak are said below.
    """
    samples, rate = sound
    if not samples.size:
        return note(f"{name}: no samples")
    peak = float(np.abs(samples).max())
    scale = 1 / peak if peak > SILENT else 1
    lanes = [_lane(channel * scale, index) for index, channel in enumerate(samples)]
    drawing = tag(
        "svg",
        *lanes,
        viewBox=f"0 0 {WAVE_WIDTH} {WAVE_HEIGHT * len(samples)}",
        role="img",
        aria_label=f"waveform of {name}",
    )
    level = f"peak {20 * np.log10(peak):.1f} dB" if peak > SILENT else "silent"
    said = f"{number(samples.shape[1] / rate)} s, {number(rate / 1000, 4)} kHz, {level}"
    return tag("figure", drawing, tag("figcaption", said))


def _lane(samples: np.ndarray, index: int) -> Html:
    """One channel's highest and lowest sample in each column, as an outline."""
    num_columns = min(WAVE_WIDTH, len(samples))
    bounds = np.arange(num_columns) * len(samples) // num_columns
    middle, reach = WAVE_HEIGHT * (index + 0.5), WAVE_HEIGHT / 2 - 1
    x = (np.arange(num_columns) + 0.5) * WAVE_WIDTH / num_columns
    # At least a thin line where it is silent.
    upper = middle - np.maximum(np.maximum.reduceat(samples, bounds).clip(-1, 1) * reach, 0.3)
    lower = middle - np.minimum(np.minimum.reduceat(samples, bounds).clip(-1, 1) * reach, -0.3)
    there = [f"{a:.1f},{b:.1f}" for a, b in zip(x, upper, strict=True)]
    back = [f"{a:.1f},{b:.1f}" for a, b in zip(x[::-1], lower[::-1], strict=True)]
    return tag("path", class_="wave", d=f"M{'L'.join(there + back)}Z")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
