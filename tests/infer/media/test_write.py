import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_infer.media.write import frame_rate, write_clip
from ltx_models.errors import UserError
from tests.infer.media.written import PACKET, moving, only, read


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "clip.mp4"


# Picture


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "CLIP.MP4"])
def test_chunks_become_frames_in_their_order(tmp_path, name):
    path = tmp_path / name
    frames = moving(9)
    assert write_clip(path, iter([frames[:1], frames[1:6], frames[6:]]), fps=24) == 9
    clip = read(path)
    assert only(path)
    assert clip.sound is None
    # Brightness b in 0..255 is 16 + b * 219/255 in the luma plane.
    luma = [planes[:32].mean() for planes in clip.planes]
    np.testing.assert_allclose(luma, 16 + 8 * np.arange(1, 10) * 219 / 255, atol=1)
    np.testing.assert_allclose(clip.starts, np.arange(9) / 24, atol=1e-6)


def test_a_chunk_is_encoded_before_the_next_is_asked_for(path):
    sizes = []

    def chunks() -> Iterator[np.ndarray]:
        for seed in range(6):
            yield np.random.default_rng(seed).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
            sizes.append(sum(part.stat().st_size for part in path.parent.iterdir()))

    write_clip(path, chunks(), fps=24)
    assert sizes[-1] > sizes[0]


def test_floats_are_bytes_over_255_and_clipped(path):
    ramp = np.linspace(-0.5, 1.5, 64)
    frames = np.broadcast_to(ramp[None, None, :, None], (2, 32, 64, 3)).astype(np.float32)
    write_clip(path, [frames], fps=24)
    rounded = np.rint(frames.clip(0, 1) * 255).astype(np.uint8)
    write_clip(path.with_name("bytes.mp4"), [rounded], fps=24)
    np.testing.assert_array_equal(read(path).planes, read(path.with_name("bytes.mp4")).planes)


def bt709(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Y, Cb, Cr in bytes of video range, after Rec. ITU-R BT.709, parts 3 and 4; RGB in 0..1."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8556,
        128 + 224 * (red - luma) / 1.5748,
    )


@pytest.mark.parametrize("rgb", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0.2, 0.5, 0.8)])
def test_colours_are_those_of_bt709(path, rgb):
    write_clip(path, [np.full((2, 32, 64, 3), rgb, np.float32)], fps=24)
    planes = read(path).planes[0]
    luma, chroma = planes[:32], planes[32:].reshape(2, -1)
    got = (luma.mean(), chroma[0].mean(), chroma[1].mean())
    np.testing.assert_allclose(got, bt709(*rgb), atol=2)  # BT.601 is off by 10 and more


def test_the_file_says_bt709_in_video_range(path):
    write_clip(path, [moving(2)], fps=24)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (1, 1, 1)
        assert codec.color_range == 1


def test_the_index_comes_before_the_data(path):
    write_clip(path, [moving(2)], fps=24)
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name)
        at += size
    assert names.index(b"moov") < names.index(b"mdat")


def test_same_input_same_clip(path):
    """By what is decoded: libx264 writes other bytes for the same pixels once in 1000 runs."""
    sound = np.random.default_rng(0).uniform(-1, 1, (2, 3000))
    for name in ("one.mp4", "two.mp4"):
        write_clip(path.with_name(name), [moving(9)], fps=24, audio=sound, sampling_rate=24000)
    one, two = (read(path.with_name(name)) for name in ("one.mp4", "two.mp4"))
    np.testing.assert_array_equal(one.planes, two.planes)
    np.testing.assert_array_equal(one.sound, two.sound)


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (24, Fraction(24)),
        (24.0, Fraction(24)),
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
    ],
)
def test_frame_rates_are_exact(path, fps, exact):
    assert frame_rate(fps) == exact
    write_clip(path, [moving(5)], fps=fps)
    clip = read(path)
    assert clip.rate == exact
    assert clip.starts[-1] == pytest.approx(4 / exact)


@pytest.mark.parametrize("fps", [0, -24, float("nan"), float("inf")])
def test_impossible_frame_rates_are_named(fps):
    with pytest.raises(UserError, match=f"a clip cannot have {fps} frames a second"):
        frame_rate(fps)


# Sound


def burst(num_samples: int, *, at: int, rate: int) -> np.ndarray:
    """Silence with 50 ms of a 1 kHz tone that swells and fades, from sample ``at``."""
    length = rate // 20
    wave = np.zeros(num_samples, np.float32)
    tone = np.sin(2 * np.pi * 1000 * np.arange(length) / rate) * np.hanning(length)
    wave[at : at + length] = 0.5 * tone
    return wave


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_sound_starts_with_the_picture(path, rate):
    left, right = burst(rate, at=rate // 4, rate=rate), burst(rate, at=rate // 2, rate=rate)
    write_clip(path, [moving(24)], fps=24, audio=np.stack([left, right]), sampling_rate=rate)
    clip = read(path)
    assert clip.sampling_rate == rate
    assert clip.starts[0] == 0
    for got, want in zip(clip.sound[:, :rate], (left, right), strict=True):
        spectrum = np.fft.rfft(got, 2 * rate) * np.fft.rfft(want, 2 * rate).conj()
        shift = np.fft.irfft(spectrum).argmax()
        assert min(shift, 2 * rate - shift) < rate / 1000
        np.testing.assert_allclose(got, want, atol=0.05)


def test_mono_is_heard_on_both_sides(path):
    wave = burst(24000, at=6000, rate=24000)
    for audio in (wave, wave[None]):
        write_clip(path, [moving(24)], fps=24, audio=audio, sampling_rate=24000)
        sound = read(path).sound[:, :24000]
        np.testing.assert_allclose(sound, np.stack([wave, wave]), atol=0.05)


def test_sound_past_full_scale_is_clipped(path):
    loud = 3 * np.sin(np.arange(24000) / 5)
    write_clip(path, [moving(24)], fps=24, audio=loud, sampling_rate=24000)
    clipped = path.with_name("clipped.mp4")
    write_clip(clipped, [moving(24)], fps=24, audio=loud.clip(-1, 1), sampling_rate=24000)
    np.testing.assert_array_equal(read(path).sound, read(clipped).sound)


def test_short_sound_is_filled_up_with_silence(path):
    audio = np.full((2, 2400), 0.5, np.float32) * np.sin(np.arange(2400) / 5)
    write_clip(path, [moving(24)], fps=24, audio=audio, sampling_rate=24000)
    sound = read(path).sound
    assert sound.shape[1] >= 24000
    assert np.abs(sound[:, :2400]).max() > 0.4
    assert np.abs(sound[:, 2400 + 2 * PACKET :]).max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(
    num_frames=st.integers(1, 24),
    fps=st.sampled_from([24, 25, 23.976, 29.97, 60, 7.5]),
    rate=st.sampled_from([16000, 24000, 44100, 48000]),
    seconds=st.one_of(st.none(), st.floats(0, 3)),
    chunk=st.integers(1, 9),
)
def test_every_frame_is_kept_and_sound_has_the_length_of_the_picture(
    tmp_path_factory, num_frames, fps, rate, seconds, chunk
):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = moving(num_frames)
    audio = None if seconds is None else np.zeros((2, int(seconds * rate)))
    chunks = (frames[start : start + chunk] for start in range(0, num_frames, chunk))
    sampling_rate = None if audio is None else rate
    assert write_clip(path, chunks, fps=fps, audio=audio, sampling_rate=sampling_rate) == num_frames
    clip = read(path)
    assert len(clip.planes) == num_frames
    np.testing.assert_allclose(
        clip.starts, np.arange(num_frames) / float(frame_rate(fps)), atol=1e-6
    )
    if audio is not None:
        assert abs(clip.sound.shape[1] - num_frames / frame_rate(fps) * rate) <= PACKET


@pytest.mark.parametrize(("rate", "said"), [(22000, "22000"), (None, "None")])
def test_a_sampling_rate_that_aac_lacks_is_named(path, rate, said):
    with pytest.raises(UserError, match=f"AAC has no sampling rate of {said}; it has .*48000"):
        write_clip(path, [moving(2)], fps=24, audio=np.zeros((2, 9)), sampling_rate=rate)


@pytest.mark.parametrize(
    "audio", [np.zeros((6, 9)), np.zeros((2, 9), np.int16), np.zeros((1, 2, 9))]
)
def test_sound_of_another_form_is_a_fault_of_the_program(path, audio):
    with pytest.raises(ValueError, match=r"sound is float \(1 or 2, samples\), not"):
        write_clip(path, [moving(2)], fps=24, audio=audio, sampling_rate=24000)


def test_sound_that_is_not_finite_is_an_error(path):
    with pytest.raises(UserError, match="sound holds values that are not finite"):
        write_clip(path, [moving(2)], fps=24, audio=np.full((2, 9), np.nan), sampling_rate=24000)


# Comment


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_the_comment_comes_back(tmp_path, name):
    comment = '{"prompt": "\u00e9t\u00e9, \u6771\u4eac \U0001f30a", "x": "' + "y" * 20_000 + '"}'
    write_clip(tmp_path / name, [moving(2)], fps=24, comment=comment)
    assert read(tmp_path / name).comment == comment


def test_a_comment_too_long_for_mov_is_not_cut_in_silence(path):
    comment = "\u00e9" * 40_000
    write_clip(path, [moving(2)], fps=24, comment=comment)
    assert read(path).comment == comment
    with pytest.raises(UserError, match=r"its comment is too long for a \.mov; take a \.mp4"):
        write_clip(path.with_suffix(".mov"), [moving(2)], fps=24, comment=comment)
    assert only(path)
