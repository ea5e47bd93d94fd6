"""The real command on the stand-in, as README gives it, and what is in the file."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

COMMAND = Path(sys.executable).with_name("ltx-generate")
PROMPT = "a lighthouse at dusk, waves"
SMALL = ("--height", "128", "--width", "192", "--num-frames", "17")
AAC_PACKET = 1024


def generate(folder: Path, *words: str) -> str:
    """Run the command with the stand-in of this test run; what it says on stdout."""
    done = subprocess.run(
        [COMMAND, "--model", "tiny", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Frames (F, H, W, 3) uint8, sound (2, samples) or None, and its rate."""
    with av.open(str(path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return frames, None, 0
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
        return frames, sound, file.streams.audio[0].rate


@pytest.fixture(scope="module")
def clip(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """README's first command."""
    folder = tmp_path_factory.mktemp("clip")
    said = generate(folder, "--prompt", PROMPT, "--audio", "-o", "out.mp4")
    assert said == "out.mp4: 33 frames, stereo sound at 48000 Hz\n"
    return folder / "out.mp4"


def test_first_command_makes_the_clip_it_promises(clip: Path):
    with av.open(str(clip)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate) == (512, 512, 24)
        assert audio.channels == 2
        assert video.codec_context.color_primaries == 1  # BT.709
    frames, sound, rate = read(clip)
    assert frames.shape == (33, 512, 512, 3)
    assert abs(sound.shape[1] - 33 / 24 * rate) <= AAC_PACKET


def test_first_command_is_neither_grey_nor_mute(clip: Path):
    frames, sound, _ = read(clip)
    assert all(frame.std() > 10 for frame in frames)
    moved = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (moved > 0.5).all()
    assert 20 * np.log10(np.sqrt((sound**2).mean())) > -40
    assert np.abs(sound).max() <= 1.1  # AAC may overshoot a little


def test_index_lies_in_front_of_the_data(clip: Path):
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def made(tiny: Path, folder: Path, *words: str) -> tuple[np.ndarray, np.ndarray | None]:
    generate(folder, *SMALL, "-o", "clip.mp4", *words)
    frames, sound, _ = read(folder / "clip.mp4")
    return frames, sound


def same(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and bool((one == two).all())


def test_seed_and_prompt_decide_the_clip(tiny: Path, tmp_path: Path):
    words: Sequence[str] = ("--prompt", PROMPT, "--seed", "7", "--audio")
    frames, sound = made(tiny, tmp_path, *words)
    again, sound_again = made(tiny, tmp_path, *words)
    assert same(frames, again)
    assert same(sound, sound_again)
    assert not same(frames, made(tiny, tmp_path, *words, "--seed", "8")[0])
    assert not same(frames, made(tiny, tmp_path, *words, "--prompt", "a forest in rain")[0])


def test_without_audio_there_is_no_track(tiny: Path, tmp_path: Path):
    frames, sound = made(tiny, tmp_path, PROMPT, "--one-stage")
    assert frames.shape == (17, 128, 192, 3)
    assert sound is None
