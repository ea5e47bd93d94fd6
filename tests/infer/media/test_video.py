from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ltx_infer.media.video import (
    Stamped,
    VideoInfo,
    at_constant_rate,
    every_frame,
    read_video,
    stream_frames,
    video_info,
    video_pixels,
)
from ltx_infer.media.write import write_clip
from ltx_models.errors import UserError
from tests.infer.media.odd_media import (
    corners,
    count,
    counting,
    quarters,
    song_with_cover,
    tone,
    write_sound,
    write_video,
)

MEDIA = Path(__file__).parents[2] / "media"
UPRIGHT = ("red", "green", "blue", "grey")
MILLISECOND = Fraction(1, 1000)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "clip.mp4"


# Frames


def test_a_real_clip_is_read_whole():
    frames, rate = read_video(MEDIA / "bigbuckbunny.mp4")
    assert frames.shape == (25, 180, 320, 3)
    assert frames.dtype == np.uint8
    assert rate == 25
    assert frames.std() > 30


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv422p10le"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mov", "png", "rgb24"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_containers_codecs_and_pixel_formats(tmp_path, name, codec, pix_fmt):
    shown = np.stack([quarters()] * 3)
    path = write_video(tmp_path / name, shown, codec=codec, pix_fmt=pix_fmt, unit=Fraction(1, 25))
    frames, _ = read_video(path, max_frames=3)
    assert frames.shape == shown.shape
    assert [corners(frame) for frame in frames] == [UPRIGHT] * 3


def test_odd_sizes(tmp_path):
    frames = np.stack([quarters(height=33, width=47)] * 2)
    path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="yuv420p")
    got, _ = read_video(path)
    assert got.shape == frames.shape
    assert corners(got[0]) == UPRIGHT


def test_frames_come_in_their_order_and_no_more_than_asked_for(path):
    write_video(path, counting(12))
    assert count(read_video(path)[0]) == list(range(12))
    assert count(read_video(path, max_frames=5)[0]) == list(range(5))
    assert count(read_video(path, max_frames=50)[0]) == list(range(12))


def test_frames_are_decoded_as_they_are_asked_for(path):
    """The end of this file is missing, which whoever takes two frames never learns."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    write_video(path.with_suffix(".mkv"), noise, codec="ffv1", pix_fmt="bgr0")
    stream = stream_frames(path.with_suffix(".mkv"))
    np.testing.assert_array_equal(np.stack(list(islice(stream, 2))), noise[:2])
    stream.close()


@pytest.mark.parametrize(
    ("turn", "size", "seen"),
    [
        ((0, False, False), (64, 96), ("red", "green", "blue", "grey")),
        ((-90, False, False), (96, 64), ("blue", "red", "grey", "green")),
        ((90, False, False), (96, 64), ("green", "grey", "red", "blue")),
        ((180, False, False), (64, 96), ("grey", "blue", "green", "red")),
        ((0, True, False), (64, 96), ("green", "red", "grey", "blue")),
        ((0, False, True), (64, 96), ("blue", "grey", "red", "green")),
        ((90, True, False), (96, 64), ("grey", "green", "blue", "red")),  # turned, then mirrored
        ((-90, True, False), (96, 64), ("red", "blue", "green", "grey")),
    ],
)
def test_a_phone_video_is_turned_upright(path, turn, size, seen):
    write_video(path, np.stack([quarters()] * 2), turn=turn)
    frames, _ = read_video(path)
    assert frames.shape[1:3] == size
    assert corners(frames[0]) == seen
    info = video_info(path)
    assert (info.height, info.width) == size


def test_pixels_that_are_not_square_are_made_so(path):
    write_video(path, np.stack([quarters()] * 2), pixel_aspect=2)
    frames, _ = read_video(path)
    assert frames.shape[1:3] == (64, 192)
    assert corners(frames[0]) == UPRIGHT
    assert video_info(path).width == 192


BT709, BT601, BT2020 = 1, 6, 9
NARROW, FULL = 1, 2


@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
@pytest.mark.parametrize("value_range", [NARROW, FULL])
def test_the_file_says_its_matrix_and_range(path, matrix, value_range):
    write_video(path, np.stack([quarters()] * 2), colours=(matrix, value_range))
    frames, _ = read_video(path)
    np.testing.assert_allclose(frames[0, 8, 8], (230, 20, 20), atol=4)
    np.testing.assert_allclose(frames[0, 8, 88], (20, 200, 20), atol=4)


@pytest.mark.parametrize(("height", "matrix"), [(480, BT601), (720, BT709)])
def test_a_file_that_does_not_say_is_taken_by_its_size(tmp_path, height, matrix):
    red = np.broadcast_to(np.array([200, 30, 30], np.uint8), (1, height, 64, 3))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(red[0])).reformat(
        format="yuv420p", dst_colorspace=matrix
    )
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 24, width=64, height=height)
        stream.pix_fmt = "yuv420p"
        frame.colorspace = 2  # not said
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_allclose(read_video(path)[0][0, 9, 9], red[0, 0, 0], atol=3)


# Time


def test_a_rate_is_kept_by_time(path):
    write_video(path, counting(12), unit=Fraction(1, 24))
    assert count(read_video(path, fps=12)[0]) == [0, 2, 4, 6, 8, 10]
    assert count(read_video(path, fps=24)[0]) == list(range(12))
    assert count(read_video(path, fps=48)[0]) == [n // 2 for n in range(24)]
    assert len(read_video(path, fps=30)[0]) == 15


def test_a_variable_rate_becomes_constant(path):
    # 10 frames a second, then one that stays for half a second, then 20 frames a second.
    times = [0, 100, 200, 300, 800, 850, 900, 950]
    write_video(path, counting(8), times=times, unit=MILLISECOND)
    shown = count(read_video(path, fps=20)[0])
    assert shown[:19] == [0, 0, 1, 1, 2, 2, *[3] * 10, 4, 5, 6]
    assert shown[19] == 7


def test_times_in_milliseconds_lose_no_frame(path):
    times = [round(1000 * n / 24) for n in range(20)]
    write_video(path.with_suffix(".mkv"), counting(20), times=times, unit=MILLISECOND)
    assert count(read_video(path.with_suffix(".mkv"), fps=24)[0]) == list(range(20))


def test_the_first_frame_is_at_zero(path):
    times = [500 + 40 * n for n in range(5)]
    write_video(path.with_suffix(".mkv"), counting(5), times=times, unit=MILLISECOND)
    assert count(read_video(path.with_suffix(".mkv"), fps=25)[0]) == list(range(5))


@pytest.mark.parametrize(("start", "first"), [(0.25, 6), (0.3, 7), (11 / 24, 11)])
def test_a_start_is_in_seconds(path, start, first):
    write_video(path, counting(12))
    assert count(read_video(path, start=start)[0])[0] == first


def stamps(lengths: list[int], *, unit: Fraction) -> list[Stamped]:
    """Items that stand for frames, each as long as said and beginning where the last one ends."""
    begins = np.cumsum([0, *lengths]).tolist()
    return [
        Stamped(n, begin * unit, length * unit)  # type: ignore[arg-type]
        for n, (begin, length) in enumerate(zip(begins, lengths, strict=False))
    ]


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=30),
    rate=st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]),
)
def test_any_timing_gives_a_frame_for_every_moment(lengths, rate):
    shown = list(at_constant_rate(stamps(lengths, unit=MILLISECOND), rate=rate, start=Fraction(0)))
    # The rounding of a time to a frame, and the half a frame that the last one is given.
    assert len(shown) == pytest.approx(float(sum(lengths) * MILLISECOND * rate), abs=1.1)
    assert shown == sorted(shown)
    assert shown[0] == 0 or lengths[0] * MILLISECOND * rate < 1
    ends = np.cumsum(lengths)
    for k, n in enumerate(shown):
        # Shown at most two fifths of a frame before its time, and never after its end.
        assert (ends[n] - lengths[n]) * MILLISECOND * rate < k + Fraction(2, 5)
        assert n == len(lengths) - 1 or ends[n] * MILLISECOND * rate >= k + Fraction(2, 5)


@settings(deadline=None)
@given(num_frames=st.integers(1, 60), rate=st.sampled_from([24, 25, Fraction(24000, 1001), 60]))
def test_a_constant_rate_is_left_alone(num_frames, rate):
    rate = Fraction(rate)
    stamped = stamps([1] * num_frames, unit=1 / rate)
    assert list(at_constant_rate(stamped, rate=rate, start=Fraction(0))) == list(range(num_frames))


@pytest.mark.parametrize("times", [[0, 40, 95, 120], [500, 501, 700, 2000]])
def test_every_frame_once_at_its_own_time(path, times):
    write_video(path, counting(4), times=times, unit=MILLISECOND)
    shown = list(every_frame(path))
    assert count(np.stack([frame.pixels for frame in shown])) == [0, 1, 2, 3]
    assert [frame.start for frame in shown] == [Fraction(time, 1000) for time in times]


# Facts


def test_what_a_clip_is():
    assert video_info(MEDIA / "bigbuckbunny.mp4") == VideoInfo(
        num_frames=25,
        fps=Fraction(25),
        height=180,
        width=320,
        duration=1.0,
        has_sound=True,
        is_hdr=False,
        unit=Fraction(1, 12800),
    )


def test_a_header_without_a_count_is_estimated(path):
    write_video(path.with_suffix(".mkv"), counting(13), unit=Fraction(1, 25))
    info = video_info(path.with_suffix(".mkv"))
    assert info.fps == 25
    assert not info.has_sound
    assert abs(info.num_frames - 13) <= 1
    assert info.duration == pytest.approx(0.52, abs=0.05)


# Pixels


def test_a_video_becomes_pixels(path):
    write_video(path, np.stack([quarters()] * 6))
    pixels = video_pixels(path, height=32, width=32, max_frames=5)
    assert pixels.shape == (1, 3, 5, 32, 32)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels[0, :, 0, 4, 4], np.array([230, 20, 20]) / 127.5 - 1, atol=0.05
    )


def test_a_video_that_changes_its_size(tmp_path):
    """Two streams one after the other, as some recorders write them."""
    parts = []
    for size in (32, 64):
        frames = np.broadcast_to(np.uint8(90), (3, size, size, 3))
        part = write_video(
            tmp_path / f"{size}.mpg", frames, codec="mpeg2video", unit=Fraction(1, 25)
        )
        parts.append(part.read_bytes())
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(parts))
    with pytest.raises(UserError, match=r"both\.mpg: its frames are not all of one size"):
        read_video(path)
    assert video_pixels(path, height=32, width=32).shape[2] >= 4


# What is no video


def test_a_start_past_the_end(path):
    write_video(path, counting(12))
    with pytest.raises(UserError, match=r"clip\.mp4: has no frames from 0\.51 s on"):
        read_video(path, start=0.51)


def test_a_start_before_the_beginning(path):
    write_video(path, counting(3))
    with pytest.raises(UserError, match=r"a video cannot start at -1 s"):
        read_video(path, start=-1)


def test_an_impossible_rate(path):
    write_video(path, counting(3))
    with pytest.raises(UserError, match="a clip cannot have 0 frames a second"):
        read_video(path, fps=0)


@pytest.mark.parametrize("attempt", [read_video, video_info])
def test_sound_alone(tmp_path, attempt):
    path = write_sound(tmp_path / "a.mp4", np.stack([tone(0.2)] * 2), codec="aac")
    with pytest.raises(UserError, match=r"a\.mp4: has no picture, only sound"):
        attempt(path)


def test_the_cover_of_a_song_is_no_video(tmp_path):
    path = song_with_cover(tmp_path / "song.mp3")
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(UserError, match=r"song\.mp3: has no picture, only sound"):
        read_video(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_is_no_video(tmp_path, name):
    Image.fromarray(quarters()).save(tmp_path / name)
    with pytest.raises(UserError, match="is a picture, not a video"):
        read_video(tmp_path / name)


@pytest.mark.parametrize("attempt", [read_video, video_info])
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.mp4", b"\n".join([b"only a text"] * 99), "not a video or sound that can be read"),
        ("a.mkv", bytes(range(256)) * 9, "not a video or sound that can be read"),
        ("a.mp4", b"", "the file is empty"),
    ],
)
def test_a_file_of_something_else(tmp_path, attempt, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=reason) as error:
        attempt(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_a_file_cut_off_before_its_index(path):
    data = write_video(path, counting(12)).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"clip\.mp4: not a video or sound .*, or damaged"):
        read_video(path)


def test_a_header_without_frames(path):
    """The index is there and nothing that it points to."""
    write_clip(path, [counting(3)], fps=24)  # which puts the index in front
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(UserError, match=r"clip\.mp4: has no frames$"):
        read_video(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.mp4: there is no such file"):
        read_video(tmp_path / "nowhere.mp4")
    with pytest.raises(UserError, match="is a folder"):
        read_video(tmp_path)


def test_names_that_mean_something_to_ffmpeg(tmp_path):
    for name in ("a:b.mp4", "clip%03d.mp4", "concat:a|b.mp4", "a b'\"#?.mp4"):
        write_video(tmp_path / "clip.mp4", counting(2)).rename(tmp_path / name)
        assert len(read_video(tmp_path / name)[0]) == 2
