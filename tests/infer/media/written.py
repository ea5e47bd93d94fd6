"""Clips to write, and what was written, read back."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

PACKET = 1024  # samples in one packet of AAC


class Clip(NamedTuple):
    """A clip read back: planes of each frame, start times in seconds, sound (2, samples)."""

    planes: list[np.ndarray]
    starts: list[float]
    rate: Fraction
    sound: np.ndarray | None
    sampling_rate: int | None
    comment: str | None


def read(path: Path) -> Clip:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        comment = container.metadata.get("comment")
        planes, starts, pieces, sampling_rate = [], [], [], None
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                planes.append(frame.to_ndarray())
                starts.append(frame.time)
            else:
                sampling_rate = frame.sample_rate
                # The decoder's clock must not have run ahead of the samples, or sound would shift.
                assert round(frame.time * sampling_rate) == sum(p.shape[1] for p in pieces)
                pieces.append(frame.to_ndarray())
        sound = np.concatenate(pieces, axis=1) if pieces else None
        return Clip(planes, starts, video.average_rate, sound, sampling_rate, comment)


def moving(num_frames: int, *, height: int = 32, width: int = 64) -> np.ndarray:
    """Frames (F, H, W, 3) in bytes, each with another brightness: 8 more than the one before."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    return frames + 8 * (1 + np.arange(num_frames, dtype=np.uint8))[:, None, None, None]


def only(path: Path) -> bool:
    """Whether the file is the one thing in its folder."""
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """What a full disk does to a file that grows."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
