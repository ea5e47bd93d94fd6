import os
import wave
from pathlib import Path

import numpy as np
import pytest

from ltx_infer.media.sound import read_sound
from ltx_infer.media.write import check_wav, write_clip, write_wav
from ltx_models.errors import UserError
from tests.infer.media.odd_media import correlation, tone, write_sound
from tests.infer.media.written import files_of_at_most, moving, only

MEDIA = Path(__file__).parents[2] / "media"


# The sound of one file in another


def test_the_sound_of_a_film_survives_a_second_muxing(tmp_path):
    sound, rate = read_sound(MEDIA / "bigbuckbunny.mp4")
    write_clip(tmp_path / "clip.mp4", [moving(24)], fps=24, audio=sound, sampling_rate=rate)
    back, back_rate = read_sound(tmp_path / "clip.mp4")
    found, shift = correlation(back, sound[:, :rate])
    assert back_rate == rate
    assert found > 0.99
    assert abs(shift) < rate / 24 / 10


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("name", ["a.wav", "a.m4a", "a.mp3"])
def test_a_tone_survives_muxing(tmp_path, name, rate):
    source = tmp_path / name
    codec = {"a.wav": "pcm_s16le", "a.m4a": "aac", "a.mp3": "libmp3lame"}[name]
    swelling = tone(1, rate=rate) * np.hanning(rate)  # so that no other period fits as well
    write_sound(source, np.stack([swelling, swelling]), codec=codec, rate=rate)
    sound, _ = read_sound(source, duration=1)
    write_clip(tmp_path / "clip.mp4", [moving(24)], fps=24, audio=sound, sampling_rate=rate)
    found, shift = correlation(read_sound(tmp_path / "clip.mp4")[0], np.stack([swelling, swelling]))
    assert found > 0.99
    assert abs(shift) < rate / 24 / 10


# Sound alone


def test_a_wav_holds_the_samples_in_16_bits(tmp_path):
    path = tmp_path / "a.WAV"
    sound = np.stack([tone(0.25, rate=24000), -2 * tone(0.25, rate=24000)])
    write_wav(path, sound, rate=24000)
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (2, 2, 24000, 6000)
    samples, rate = read_sound(path)
    assert rate == 24000
    np.testing.assert_allclose(samples, sound, atol=1e-4)
    assert only(path)


def test_a_wav_of_mono_has_two_sides(tmp_path):
    for mono in (tone(0.1), tone(0.1)[None]):
        write_wav(tmp_path / "a.wav", mono, rate=48000)
        samples, _ = read_sound(tmp_path / "a.wav")
        np.testing.assert_allclose(samples, np.stack([tone(0.1)] * 2), atol=1e-4)


def test_a_wav_is_clipped_at_full_scale(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([1.5, -1.5, 1.0]), rate=48000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        pulses = np.frombuffer(file.readframes(3), "<i2")
    assert pulses.tolist() == [32767, 32767, -32767, -32767, 32767, 32767]


def test_a_wav_that_finds_the_disk_full_leaves_no_file(tmp_path):
    path = tmp_path / "a.wav"
    with files_of_at_most(20_000), pytest.raises(UserError) as error:
        write_wav(path, tone(1), rate=48000)
    assert str(error.value) == f"{path}: cannot be written: {os.strerror(27)}"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.mp3", r"the name of a sound ends in \.wav"),
        ("nowhere/a.wav", "there is no folder .*nowhere"),
        ("folder.wav", "no file can be written there"),
    ],
)
def test_a_place_that_takes_no_wav_is_named(tmp_path, name, reason):
    (tmp_path / "folder.wav").mkdir()
    for attempt in (check_wav, lambda path: write_wav(path, tone(0.1), rate=48000)):
        with pytest.raises(UserError, match=reason) as error:
            attempt(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


def test_a_wav_of_numbers_that_are_not_finite_is_an_error(tmp_path):
    with pytest.raises(UserError, match="sound holds values that are not finite"):
        write_wav(tmp_path / "a.wav", np.full((2, 9), np.inf), rate=48000)
    assert not any(tmp_path.iterdir())
