"""The real command on the stand-in, as README gives it, and what is in the file."""

from pathlib import Path

import av
import numpy as np
import pytest

from ltx_infer.cli import main
from tests.end_to_end.conftest import read_clip

PROMPT = "a lighthouse at dusk, waves"
SMALL = ("--height", "64", "--width", "128", "--num-frames", "9", "-o", "clip.mp4")
AAC_PACKET = 1024


@pytest.fixture(scope="module")
def clip(generate, tmp_path_factory) -> Path:
    """README's first command."""
    folder = tmp_path_factory.mktemp("clip")
    said = generate(folder, "--prompt", PROMPT, "--audio", "-o", "out.mp4")
    assert said == "out.mp4: 33 frames, stereo sound at 48000 Hz\n"
    return folder / "out.mp4"


def test_first_command_makes_the_clip_it_promises(clip):
    with av.open(str(clip)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate) == (512, 512, 24)
        assert audio.channels == 2
        assert video.codec_context.color_primaries == 1  # BT.709
    frames, sound, rate = read_clip(clip)
    assert frames.shape == (33, 512, 512, 3)
    assert abs(sound.shape[1] - 33 / 24 * rate) <= AAC_PACKET


def test_first_command_is_neither_grey_nor_mute(clip):
    frames, sound, _ = read_clip(clip)
    assert all(frame.std() > 10 for frame in frames)
    moved = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (moved > 0.5).all()
    assert -40 < 20 * np.log10(np.sqrt((sound**2).mean())) < -6


def test_index_lies_in_front_of_the_data(clip):
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def same(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and bool((one == two).all())


def test_seed_and_prompt_decide_the_clip(generate, tmp_path, monkeypatch):
    """And not the process that it is made in."""
    monkeypatch.chdir(tmp_path)

    def words(prompt: str, seed: str) -> tuple[str, ...]:
        return (*SMALL, "--prompt", prompt, "--seed", seed, "--audio")

    def made(prompt: str, seed: str):
        main(["--model", "tiny", *words(prompt, seed)])
        return read_clip(tmp_path / "clip.mp4")

    generate(tmp_path, *words(PROMPT, "7"))
    one, again = read_clip(tmp_path / "clip.mp4"), made(PROMPT, "7")
    assert same(one.frames, again.frames)
    assert same(one.sound, again.sound)
    assert not same(one.frames, made(PROMPT, "8").frames)
    assert not same(one.frames, made("a forest in rain", "7").frames)


def test_without_audio_there_is_no_track(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["--model", "tiny", *SMALL, PROMPT, "--one-stage"])
    frames, sound, _ = read_clip(tmp_path / "clip.mp4")
    assert frames.shape == (9, 64, 128, 3)
    assert sound is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [{"LTX_BLAS": "none"}, {"PATH": ""}],
    ids=["the wheel's own BLAS", "no C++ compiler"],
)
def test_another_machine_makes_the_same_clip(generate, clip, tmp_path, env):
    """Last bits may differ, so pictures are compared by eye's measure, not bit by bit."""
    generate(tmp_path, "--prompt", PROMPT, "--audio", "-o", "out.mp4", env=env)
    here, there = read_clip(clip), read_clip(tmp_path / "out.mp4")
    assert np.abs(here.frames.astype(int) - there.frames).mean() < 0.5
    assert np.corrcoef(here.sound[0], there.sound[0])[0, 1] > 0.99
