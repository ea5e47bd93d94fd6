"""Running the real command and reading what it wrote."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

COMMAND = Path(sys.executable).with_name("ltx-generate")


class Clip(NamedTuple):
    """A decoded clip: frames (F, H, W, 3) uint8, sound (2, samples) or None, its rate in Hz."""

    frames: np.ndarray
    sound: np.ndarray | None
    rate: int


def read_clip(path: Path) -> Clip:
    with av.open(str(path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return Clip(frames, None, 0)
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
        return Clip(frames, sound, file.streams.audio[0].rate)


@pytest.fixture(scope="session")
def generate(tiny: Path) -> Callable[..., str]:
    """Run ltx-generate with the stand-in of this test run; gives what it says on stdout."""

    def run(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [COMMAND, "--model", "tiny", *words],
            cwd=folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
