import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ltx_infer.media.sound import read_sound
from ltx_models.errors import UserError
from tests.infer.media.odd_media import (
    counting,
    lag,
    song_with_cover,
    sweep,
    tone,
    write_sound,
    write_video,
)

MEDIA = Path(__file__).parents[2] / "media"
HALF = 0.5**0.5
RATE = 48000


def level(samples: np.ndarray, *, hertz: float, rate: int = RATE) -> float:
    """The amplitude of a tone in samples (N,), away from the ends."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    turning = np.exp(-2j * np.pi * hertz * np.arange(len(middle)) / rate) * np.hanning(len(middle))
    return 2 * abs((middle * turning).sum()) / np.hanning(len(middle)).sum()


# Formats


@pytest.mark.parametrize(
    ("name", "codec", "exact"),
    [
        ("a.wav", "pcm_s16le", 1e-4),
        ("a.wav", "pcm_s24le", 1e-6),
        ("a.wav", "pcm_f32le", 1e-7),
        ("a.wav", "pcm_u8", 1e-2),
        ("a.flac", "flac", 1e-4),
        ("a.aiff", "pcm_s16be", 1e-4),
        ("a.mp3", "libmp3lame", 0.1),
        ("a.ogg", "libopus", 0.1),
        ("a.m4a", "aac", 0.1),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_formats_keep_levels_sides_and_time(tmp_path, name, codec, exact, layout):
    wave = sweep(0.5)
    quiet = -0.25 * wave if layout == "stereo" else wave
    want = np.stack([wave, quiet])
    channels = want if layout == "stereo" else want[:1]
    path = write_sound(tmp_path / name, channels, codec=codec, layout=layout)
    samples, rate = read_sound(path)
    assert rate == RATE
    assert samples.dtype == np.float32
    assert abs(lag(samples[0], want[0])) <= 1
    got = np.pad(samples, ((0, 0), (0, 4096)))[:, : want.shape[1]]
    np.testing.assert_allclose(got, want, atol=exact)


def test_ogg_with_vorbis(tmp_path):
    path = write_sound(tmp_path / "a.ogg", np.stack([sweep(0.5)] * 2), codec="vorbis")
    samples, _ = read_sound(path)
    assert abs(lag(samples[0], sweep(0.5))) <= 1


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_the_rate_is_the_files(tmp_path, rate):
    path = write_sound(tmp_path / "a.wav", np.stack([tone(0.2, rate=rate)] * 2), rate=rate)
    samples, got = read_sound(path)
    assert got == rate
    assert samples.shape == (2, rate // 5)


@pytest.mark.parametrize("rate", [192_000, 37_800])
def test_a_rate_that_aac_lacks_is_changed(tmp_path, rate):
    wave = tone(0.5, rate=rate)
    path = write_sound(tmp_path / "a.flac", np.stack([wave, wave / 2]), codec="flac", rate=rate)
    samples, got = read_sound(path)
    assert got == RATE
    assert abs(samples.shape[1] - RATE // 2) <= 64
    assert level(samples[0], hertz=440) == pytest.approx(0.5, rel=0.01)
    assert level(samples[1], hertz=440) == pytest.approx(0.25, rel=0.01)


def test_the_sound_of_a_video():
    samples, rate = read_sound(MEDIA / "bigbuckbunny.mp4")
    assert rate == RATE
    assert 0.99 < samples.shape[1] / RATE < 1.05
    assert samples.std() > 0.005


def test_the_cover_of_a_song_does_not_matter(tmp_path):
    samples, rate = read_sound(song_with_cover(tmp_path / "song.mp3"))
    assert level(samples[0], hertz=440, rate=rate) == pytest.approx(0.5, rel=0.1)


# More channels than two

SURROUND = {  # what each channel gives to left and right, after BS.775
    "5.1": [(1, 0), (0, 1), (HALF, HALF), (0, 0), (HALF, 0), (0, HALF)],
    "5.1(side)": [(1, 0), (0, 1), (HALF, HALF), (0, 0), (HALF, 0), (0, HALF)],
    "7.1": [(1, 0), (0, 1), (HALF, HALF), (0, 0), *[(HALF, 0), (0, HALF)] * 2],
    "quad": [(1, 0), (0, 1), (HALF, 0), (0, HALF)],
    "4.0": [(1, 0), (0, 1), (HALF, HALF), (0.5, 0.5)],
}
PLACES = [(layout, place) for layout, gains in SURROUND.items() for place in range(len(gains))]


def surround(path: Path, layout: str, place: int, *, codec: str = "pcm_s16le") -> Path:
    """A tone in one channel and silence in the others."""
    channels = np.zeros((len(SURROUND[layout]), RATE // 4))
    channels[place] = tone(0.25)
    return write_sound(path, channels, codec=codec, layout=layout)


@pytest.mark.parametrize(("layout", "place"), PLACES)
def test_every_channel_is_heard_where_it_belongs(tmp_path, layout, place):
    samples, _ = read_sound(surround(tmp_path / "a.wav", layout, place))
    got = [level(side, hertz=440) for side in samples]
    np.testing.assert_allclose(got, 0.5 * np.array(SURROUND[layout][place]), atol=1e-3)


@pytest.mark.parametrize("place", range(6))
def test_surround_sound_of_films(tmp_path, place):
    samples, _ = read_sound(surround(tmp_path / "a.m4a", "5.1", place, codec="aac"))
    got = [level(side, hertz=440) for side in samples]
    np.testing.assert_allclose(got, 0.5 * np.array(SURROUND["5.1"][place]), atol=0.02)


def plain_wav(path: Path, channels: np.ndarray) -> Path:
    """A WAV that does not say where its channels belong."""
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(channels * 32767).astype("<i2").T.tobytes())
    return path


@pytest.mark.parametrize(("num_channels", "layout"), [(6, "5.1"), (8, "7.1")])
def test_channels_without_names_are_in_the_order_of_wav(tmp_path, num_channels, layout):
    for place in range(num_channels):
        channels = np.zeros((num_channels, RATE // 8))
        channels[place] = tone(0.125)
        samples, _ = read_sound(plain_wav(tmp_path / "a.wav", channels))
        got = [level(side, hertz=440) for side in samples]
        np.testing.assert_allclose(got, 0.5 * np.array(SURROUND[layout][place]), atol=1e-3)


def test_channels_of_unknown_places_are_an_error(tmp_path):
    path = plain_wav(tmp_path / "a.wav", np.zeros((5, 480)))
    with pytest.raises(UserError, match=r"cannot fold its channels NONE, .* the place of NONE is"):
        read_sound(path)


def test_a_loud_fold_is_made_softer_as_a_whole(tmp_path):
    loud = np.stack([tone(0.25) * 1.9] * 6)
    samples, _ = read_sound(write_sound(tmp_path / "a.wav", loud, layout="5.1"))
    assert np.abs(samples).max() == pytest.approx(1)
    assert level(samples[0], hertz=440) == pytest.approx(1, abs=1e-3)  # not cut off at the top


# Time


def test_start_and_duration(tmp_path):
    ramp = np.linspace(-0.9, 0.9, RATE)
    path = write_sound(tmp_path / "a.wav", np.stack([ramp] * 2), codec="pcm_f32le")
    samples, _ = read_sound(path, start=0.25, duration=0.5)
    np.testing.assert_allclose(samples[0], ramp[RATE // 4 : 3 * RATE // 4], atol=1e-6)
    assert read_sound(path, start=0.75, duration=9).samples.shape[1] == RATE // 4


@pytest.mark.parametrize(("codec", "name"), [("aac", "a.mp4"), ("libmp3lame", "a.mp3")])
def test_a_start_is_the_same_moment_in_compressed_sound(tmp_path, codec, name):
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    noise = np.convolve(noise, np.hanning(32), "same") / 8
    path = write_sound(tmp_path / name, np.stack([noise] * 2), codec=codec)
    samples, _ = read_sound(path, start=0.3, duration=0.4)
    assert abs(lag(samples[0], noise[round(0.3 * RATE) : round(0.7 * RATE)])) <= 1


@pytest.mark.parametrize("late", [-6, 6])
def test_sound_is_timed_by_the_first_frame(tmp_path, late):
    """Sound that begins some frames after the picture, or before it."""
    path = tmp_path / "a.mkv"
    sound_from = np.concatenate([np.zeros(RATE // 2), sweep(0.1)])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 24, width=32, height=32)
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", RATE, layout="stereo")
        for n, pixels in enumerate(counting(24)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = n + max(-late, 0), Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(
            np.stack([sound_from] * 2).astype(np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = max(late, 0) * RATE // 24
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    samples, _ = read_sound(path)
    heard = np.correlate(samples[0], sweep(0.1), "valid").argmax()
    assert abs(heard - (RATE // 2 + late * RATE // 24)) <= RATE // 500


# What is no sound


def test_a_start_past_the_end(tmp_path):
    path = write_sound(tmp_path / "a.wav", np.stack([tone(0.5)] * 2))
    with pytest.raises(UserError, match=r"a\.wav: has no sound from 0\.5 s on"):
        read_sound(path, start=0.5)


@pytest.mark.parametrize(("start", "duration"), [(-1, None), (0, 0), (0, -2)])
def test_impossible_times(tmp_path, start, duration):
    path = write_sound(tmp_path / "a.wav", np.stack([tone(0.5)] * 2))
    with pytest.raises(UserError, match=f"sound cannot start at {start} s and last {duration} s"):
        read_sound(path, start=start, duration=duration)


def test_no_samples(tmp_path):
    path = plain_wav(tmp_path / "a.wav", np.zeros((1, 0)))
    with pytest.raises(UserError, match=r"a\.wav: has no sound$"):
        read_sound(path)


def test_a_video_without_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", counting(3))
    with pytest.raises(UserError, match=r"a\.mp4: has no sound$"):
        read_sound(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\n".join([b"only a text"] * 99), "not a video or sound that can be read"),
        (b"", "the file is empty"),
        (b"RIFF" + struct.pack("<I", 4) + b"WAVE", "not a video or sound that can be read"),
    ],
)
def test_a_file_of_something_else(tmp_path, data, reason):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.wav: {reason}"):
        read_sound(tmp_path / "a.wav")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.wav: there is no such file"):
        read_sound(tmp_path / "nowhere.wav")
