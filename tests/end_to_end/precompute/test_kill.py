"""ltx-precompute killed at any moment and started again ends as if it had not been."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.train.reading.media import RATE, tone, write

NUM_KILLS = 20
KILLS_TO_A_FOLDER = 5
COMMAND = [sys.executable, "-c", "from ltx_train.precompute.cli import main; main()"]


def write_clips(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(8):
        frames = rng.integers(0, 256, (17, 5, 11, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        sound = tone(RATE, hertz=200 + 50 * i) if i % 4 else None
        write(folder / "clips" / f"{i % 2}/{i}.mkv", frames, sound=sound, caption=f"clip {i}")
        write(folder / "refs" / f"{i % 2}/{i}.mkv", frames[::-1], caption=None)
    return folder


def start(folder: Path, data: Path) -> subprocess.Popen[bytes]:
    flags = {
        "--input-dir": folder / "clips",
        "--reference-dir": folder / "refs",
        "--output-dir": data,
        "--model": "tiny",
        "--resolution-buckets": "64x32x17",
    }
    (folder / "temporary").mkdir(exist_ok=True)
    return subprocess.Popen(
        [*COMMAND, "--with-audio", *(str(part) for pair in flags.items() for part in pair)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "TMPDIR": str(folder / "temporary"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )


def contents(data: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(data.rglob("*")):
        try:
            if path.is_file():
                found[str(path.relative_to(data))] = path.read_bytes()
        except FileNotFoundError:  # an unfinished one that got its name meanwhile
            continue
    return found


def visible(data: Path) -> dict[str, bytes]:
    return {name: text for name, text in contents(data).items() if not name.endswith(".unfinished")}


def seconds_of_work(process: subprocess.Popen[bytes], data: Path) -> float:
    """From the first file that is begun to the end."""
    begun = None
    while process.poll() is None:
        if begun is None and contents(data):
            begun = time.monotonic()
        time.sleep(0.001)
    assert process.returncode == 0
    assert begun is not None
    return time.monotonic() - begun


def kill_after(process: subprocess.Popen[bytes], seconds: float, data: Path, whole: dict) -> None:
    """Kill it so long after it begins to write; until then, all that can be seen is whole."""
    end = None
    while process.poll() is None and (end is None or time.monotonic() < end):
        found = visible(data)
        assert found.items() <= whole.items()
        if end is None and (found or any(data.rglob("*.unfinished"))):
            end = time.monotonic() + seconds
    workers = psutil.Process(process.pid).children() if process.poll() is None else []
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert visible(data).items() <= whole.items()


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_is_not(tiny, tmp_path):
    folder = write_clips(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    lasting = seconds_of_work(start(folder, undisturbed), undisturbed)
    whole = contents(undisturbed)
    assert len(whole) == 8 * 3 + 6 + 2

    moments = random.Random(4)
    for number in range(NUM_KILLS // KILLS_TO_A_FOLDER):
        data = tmp_path / f"data{number}"
        for _ in range(KILLS_TO_A_FOLDER):
            kill_after(start(folder, data), moments.uniform(0, lasting / 2), data, whole)
        assert start(folder, data).wait() == 0
        assert contents(data) == whole
    left = {path.name for path in (folder / "temporary").iterdir()}
    assert left <= {"mlx"}  # where MLX keeps what it compiled
