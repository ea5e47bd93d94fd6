"""Clips to a given sound: what is muxed is that sound, and the picture follows it."""

import re
from pathlib import Path

import av
import numpy as np
import pytest

from ltx_infer import Pipeline
from ltx_infer.cli import main
from tests.end_to_end.conftest import read_clip
from tests.infer.media.odd_media import correlation, sweep, tone, write_sound

FILM = Path(__file__).parents[1] / "media" / "bigbuckbunny.mp4"
SMALL = {"model": "tiny", "height": 32, "width": 32, "num_frames": 9, "one_stage": True}
WORDS = ("--model", "tiny", "-H", "32", "-W", "32", "--one-stage", "-p", "a boat")
RATE, FPS = 48000, 24
# The share that Rec. ITU-R BS.775 gives each channel of 5.1 on the left, and on the right.
LEFT = {"FL": 1, "FC": 0.5**0.5, "SL": 0.5**0.5, "BL": 0.5**0.5}
RIGHT = {"FR": 1, "FC": 0.5**0.5, "SR": 0.5**0.5, "BR": 0.5**0.5}


def stereo(path: Path) -> np.ndarray:
    """The sound of a file (2, samples), folded here and not by the product."""
    with av.open(str(path)) as file:
        (track,) = file.streams.audio
        names = [channel.name for channel in track.layout.channels]
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(track)], axis=1)
    sides = [[share.get(name, 0) for name in names] for share in (LEFT, RIGHT)]
    return np.array(sides, np.float32) @ samples


@pytest.fixture
def made(tiny, tmp_path, monkeypatch, capsys):
    """Run the command with a sound; the clip, and what was said of its length."""
    monkeypatch.chdir(tmp_path)

    def make(sound: Path, *words: str, frames: int = 25):
        main([*WORDS, "-n", str(frames), "--audio-file", str(sound), "-o", "clip.mp4", *words])
        clip, said = read_clip(tmp_path / "clip.mp4"), capsys.readouterr().err
        assert clip.frames.shape[0] == frames
        assert abs(clip.sound.shape[1] - frames / FPS * clip.rate) <= 1024
        return clip, [line for line in said.splitlines() if line.startswith(f"{sound}: ")]

    return make


def assert_is(sound: np.ndarray, given: np.ndarray, *, rate: int = RATE) -> None:
    found, shift = correlation(sound, given)
    assert found > 0.99
    assert abs(shift) < rate / FPS / 10  # a tenth of a frame


def test_surround_of_a_film_is_folded_and_muxed(tiny, made):
    clip, said = made(FILM, frames=17)
    assert_is(clip.sound, stereo(FILM)[:, : round(17 / FPS * RATE)])
    assert said == [f"{FILM}: cut to the clip's 0.71 s"]


def test_a_tone_of_440_hz(made, tmp_path):
    given = np.stack([tone(25 / FPS), tone(25 / FPS)])
    write_sound(tmp_path / "tone.wav", given)
    clip, said = made(tmp_path / "tone.wav")
    assert_is(clip.sound, given)
    assert said == []
    middle = clip.sound[0, RATE // 4 : RATE // 4 + RATE // 2]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440 / 2  # bins of 2 Hz
    assert abs(middle.std() - given.std()) < 0.01 * given.std()


@pytest.mark.parametrize(
    "pipeline", ["distilled", pytest.param("dev", marks=pytest.mark.slow), "dev-two-stage-hq"]
)
def test_every_kind_of_sampling_keeps_the_sound(tiny, tmp_path, pipeline):
    given = np.stack([sweep(9 / FPS), -sweep(9 / FPS)])
    write_sound(tmp_path / "sweep.flac", given, codec="flac")
    settings = {**SMALL, "audio_file": tmp_path / "sweep.flac", "height": 64, "width": 64}
    guided = {} if pipeline == "distilled" else {"steps": 2}
    clip = Pipeline(pipeline, **{**settings, "one_stage": False}, **guided)("a boat")
    assert_is(clip.sound.waveform, given)


def test_another_sound_makes_another_picture(tiny, tmp_path):
    """And the same one the same, at one seed."""
    write_sound(tmp_path / "low.wav", np.stack([tone(0.5, hertz=220)] * 2))
    write_sound(tmp_path / "high.wav", np.stack([tone(0.5, hertz=3000)] * 2))

    def latents(name: str) -> np.ndarray:
        clip = Pipeline(**SMALL, audio_file=tmp_path / name)("a boat", seed=5)
        return np.array(clip.latents.video)

    low, high = latents("low.wav"), latents("high.wav")
    assert np.array_equal(low, latents("low.wav"))
    assert np.abs(low - high).max() > 0.01


def test_where_in_the_sound_to_begin(made, tmp_path):
    given = np.stack([sweep(2), sweep(2)])
    write_sound(tmp_path / "long.wav", given)
    clip, said = made(tmp_path / "long.wav", "--audio-start-time", "0.75", frames=9)
    start = round(0.75 * RATE)
    assert_is(clip.sound, given[:, start : start + round(9 / FPS * RATE)])
    assert said == [f"{tmp_path / 'long.wav'}: cut to the clip's 0.38 s"]


def test_shorter_than_the_clip_silence_follows(made, tmp_path):
    given = np.stack([sweep(0.5), sweep(0.5)])
    write_sound(tmp_path / "short.ogg", given, codec="vorbis")
    clip, said = made(tmp_path / "short.ogg")
    assert_is(clip.sound, given)
    assert clip.sound[:, round(0.6 * RATE) :].std() < 1e-3 < clip.sound[:, : RATE // 2].std()
    (line,) = said
    assert re.search(r"short\.ogg: 0\.5\d s, the clip is 1\.04 s: silence follows$", line)


def test_mono_of_another_rate(made, tmp_path):
    given = sweep(0.375, rate=22050)[None]
    write_sound(tmp_path / "mono.mp3", given, codec="libmp3lame", layout="mono", rate=22050)
    clip, _ = made(tmp_path / "mono.mp3", frames=9)
    assert clip.rate == 22050
    assert_is(clip.sound, np.concatenate([given, given]), rate=clip.rate)


def test_below_full_strength_the_sound_is_remade(made, tiny, tmp_path):
    """What is muxed is then decoded from the latents, and is no longer the input."""
    given = np.stack([sweep(9 / FPS), sweep(9 / FPS)])
    write_sound(tmp_path / "sweep.wav", given)
    clip, _ = made(tmp_path / "sweep.wav", "--audio-strength", "0.6", frames=9)
    again = Pipeline(**SMALL, audio_file=tmp_path / "sweep.wav", audio_strength=0.6)("a boat")
    # Nearer noise than sound, of which AAC keeps less.
    assert correlation(clip.sound, again.sound.waveform)[0] > 0.9
    assert correlation(clip.sound, given)[0] < 0.5


def test_a_silent_sound_is_taken_as_it_is(made, tmp_path):
    write_sound(tmp_path / "silent.wav", np.zeros((2, RATE)))
    clip, _ = made(tmp_path / "silent.wav", frames=9)
    assert np.abs(clip.sound).max() < 1e-4
