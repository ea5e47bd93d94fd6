"""Clips cut from the film of tests/media: some of its frames, and a part of its picture."""

from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ltx_infer.media.write import write_clip

FILM = Path(__file__).parents[1] / "media" / "bigbuckbunny.mp4"
FPS, RATE = 25, 48000
SAMPLES = RATE // FPS  # of sound, to a frame


class Cut(NamedTuple):
    """Frames (F, H, W, 3) in bytes at ``FPS``, and their sound (2, samples) at ``RATE``."""

    frames: np.ndarray
    sound: np.ndarray

    def part(self, start: int, count: int, *, top: int = 0, left: int = 0, size=(98, 160)) -> "Cut":
        """``count`` frames from ``start`` on, of them a rectangle of ``size`` rows and columns."""
        stop, (rows, columns) = start + count, size
        return Cut(
            self.frames[start:stop, top : top + rows, left : left + columns],
            self.sound[:, start * SAMPLES : stop * SAMPLES],
        )


def read_film(*, num_frames: int = 25) -> Cut:
    """The film, there and back again where more frames are asked for than it has."""
    resampler = av.AudioResampler("flt", "stereo", RATE)
    with av.open(str(FILM)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(FILM)) as file:
        packed = [
            part.to_ndarray().reshape(-1, 2)
            for frame in file.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    sound = np.concatenate(packed).T[:, : len(frames) * SAMPLES]
    there_and_back = np.concatenate([np.arange(len(frames)), np.arange(len(frames))[::-1]])
    order = np.resize(there_and_back, num_frames)
    return Cut(frames[order], np.resize(sound, (2, num_frames * SAMPLES)))


def write_cut(path: Path, cut: Cut, *, caption: str | None = None, with_sound: bool = True) -> None:
    """A clip as MP4, with its caption in a text file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.ascontiguousarray(cut.sound) if with_sound else None
    frames = [np.ascontiguousarray(cut.frames)]
    write_clip(path, frames, fps=FPS, audio=sound, sampling_rate=RATE if with_sound else None)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
