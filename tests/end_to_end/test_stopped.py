"""Stopped and killed at any moment: no half of a clip, and no minute of sampling lost."""

import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_infer.pipeline.saved import load
from tests.end_to_end.conftest import COMMAND, Clip, read_clip

CLIP, LATENTS = "clip.mp4", "clip.latents.safetensors"
WORDS = ("--model", "tiny", "-p", "a boat", "--pipeline", "dev-two-stage", "--steps", "4")
WORDS += ("-H", "128", "-W", "128", "-n", "41", "--audio", "-o", CLIP)
NUM_FRAMES = 41


class Ended(NamedTuple):
    """How a run ended: its exit code and what it said."""

    code: int
    said: str


def size_of_part(folder: Path) -> int:
    """Bytes of the clip that are written under its temporary name; -1 where there is none."""
    return max((path.stat().st_size for path in folder.glob(f".{CLIP}.*")), default=-1)


# Told from what the run has said so far, and from what lies in its folder.
MOMENTS: dict[str, Callable[[str, Path], bool]] = {
    "models are found": lambda said, folder: "LoRA" in said,
    "the prompt is encoded": lambda said, folder: "\ntext" in said,
    "stage 1 is done": lambda said, folder: "\nstage 1" in said,
    "the picture is upscaled": lambda said, folder: "\nupscale" in said,
    "stage 2 is done": lambda said, folder: "\nstage 2" in said,
    "latents are saved": lambda said, folder: (folder / LATENTS).exists(),
    "sound is decoded": lambda said, folder: "\nsound" in said,
    "the clip is begun": lambda said, folder: size_of_part(folder) >= 0,
    "some of it is written": lambda said, folder: size_of_part(folder) > 0,
    "all is decoded": lambda said, folder: "\ndecode" in said,
}


def ended(folder: Path, moment: str, by: int) -> Ended:
    """Run the real command and send it a signal at a moment, unless it is done before it."""
    said = folder.with_name(f"{folder.name}.txt")
    with (
        said.open("w") as stderr,
        subprocess.Popen([COMMAND, *WORDS], cwd=folder, stdout=stderr, stderr=stderr) as run,
    ):
        while run.poll() is None and not MOMENTS[moment](said.read_text(), folder):
            time.sleep(0.001)
        run.send_signal(by)
    return Ended(run.returncode, said.read_text())


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The clip of a run that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run([COMMAND, *WORDS], cwd=folder, check=True, capture_output=True)
    return read_clip(folder / CLIP)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("moment", MOMENTS)
def test_no_half_of_a_clip(whole, tmp_path, monkeypatch, by, moment):
    """Whatever is under the clip's name is whole; what latents are left become a clip."""
    monkeypatch.chdir(tmp_path)
    run = ended(tmp_path, moment, by)
    assert "Traceback" not in run.said
    left = [name for name in (CLIP, LATENTS) if (tmp_path / name).exists()]
    if CLIP in left:  # it was done, or was stopped at its very end
        same(read_clip(tmp_path / CLIP), whole)
        return
    assert run.code == (-by if by == signal.SIGKILL else 130), run.said
    if by == signal.SIGINT:
        assert [path.name for path in tmp_path.iterdir()] == left
        assert ("--decode-only" in run.said) == (left == [LATENTS])
    after_sampling = list(MOMENTS).index(moment) >= list(MOMENTS).index("latents are saved")
    assert left == [LATENTS] or not after_sampling
    if left:
        finished = load(Path(LATENTS)).latents.video.shape[-1] == 4  # not the half-size stage's
        assert finished or not after_sampling
        main(["--decode-only", LATENTS, "-o", CLIP])
        clip = read_clip(tmp_path / CLIP)
        assert len(clip.frames) == NUM_FRAMES
        if finished:
            same(clip, whole)


def same(clip: Clip, wanted: Clip) -> None:
    assert np.array_equal(clip.frames, wanted.frames)
    assert np.array_equal(clip.sound, wanted.sound)


@pytest.mark.slow
def test_stopped_in_the_second_stage_it_keeps_the_first(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [COMMAND, *WORDS], cwd=tmp_path, stdout=pipe, stderr=pipe, text=True
    ) as run:
        assert run.stderr is not None
        while not (line := run.stderr.readline()).startswith("upscale"):
            assert line, "it ended"
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == 130
    first, second = said.splitlines()[-2:]
    assert first == "ltx-generate: stopped"
    assert [path.name for path in tmp_path.iterdir()] == [LATENTS]
    main(shlex.split(second.removeprefix("To decode the last good latents: "))[1:])
    assert read_clip(tmp_path / CLIP).frames.shape == (NUM_FRAMES, 64, 64, 3)
