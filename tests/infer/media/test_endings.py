"""Clips in the other forms: WebM, GIF, and one frame as PNG."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.container import read_comment
from ltx_infer.media.write import check_output, write_clip
from ltx_models.errors import UserError
from tests.infer.media.written import files_of_at_most, moving, only

COMMENT = '{"prompt": "\u00e9t\u00e9, \u6771\u4eac \U0001f30a", "x": "' + "y" * 20_000 + '"}'


def colourful(num_frames: int) -> np.ndarray:
    """Frames (F, 48, 64, 3) in bytes of soft colours that move."""
    rows, columns = np.mgrid[:48, :64]
    frames = [
        np.stack([(columns * 4 + 9 * i) % 256, rows * 5, 255 - columns * 3], axis=-1)
        for i in range(num_frames)
    ]
    return np.stack(frames).astype(np.uint8)


def shown(path) -> tuple[list[np.ndarray], list[int]]:
    """Frames of a GIF, and for how many milliseconds each is shown."""
    with Image.open(path) as image:
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return frames, durations


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_a_webm_has_vp9_and_opus_in_time(tmp_path, rate):
    path = tmp_path / "clip.webm"
    tone = np.sin(np.arange(rate) / 9) * (np.arange(rate) >= rate // 2)
    assert write_clip(path, [moving(24)], fps=24, audio=tone, sampling_rate=rate) == 24
    assert only(path)
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    luma = [frame.to_ndarray()[:32].mean() for frame in frames]
    np.testing.assert_allclose(luma, 16 + 8 * np.arange(1, 25) * 219 / 255, atol=1.5)
    starts = [frame.time for frame in frames]
    np.testing.assert_allclose(starts, np.arange(24) / 24, atol=5.1e-4)  # it counts in ms
    with av.open(str(path)) as file:
        pieces = list(file.decode(audio=0))
        assert pieces[0].time == 0
        sound = np.concatenate([piece.to_ndarray() for piece in pieces], axis=1)
    assert abs(sound.shape[1] - 48000) < 1000
    assert np.argmax(np.abs(sound[0]) > 0.3) / 48000 == pytest.approx(0.5, abs=2e-3)
    with av.open(str(path)) as file:
        codecs = [stream.codec_context.codec.canonical_name for stream in file.streams]
        picture = file.streams.video[0].codec_context
        assert codecs == ["vp9", "opus"]
        assert (picture.color_primaries, picture.colorspace, picture.color_range) == (1, 1, 1)


def test_a_gif_has_the_colours_and_the_length_of_its_frames(tmp_path):
    path, frames = tmp_path / "clip.gif", colourful(25)
    assert write_clip(path, [frames[:9], frames[9:]], fps=24) == 25
    assert only(path)
    got, durations = shown(path)
    assert np.abs(np.stack(got).astype(int) - frames).mean() < 12  # dithered; red for blue has 60
    assert sum(durations[:-1]) == 1000
    assert set(durations) <= {40, 50}


def test_a_gif_of_many_frames_a_second_has_fewer(tmp_path):
    assert write_clip(tmp_path / "a.gif", [colourful(61)], fps=60) == 41
    _, durations = shown(tmp_path / "a.gif")
    assert min(durations) >= 20  # browsers show a shorter frame five times as long
    assert sum(durations[:-1]) == 1000


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from ltx_infer.media.write import write_clip
frames = (np.full((1, 512, 512, 3), n % 256, np.uint8) for n in range(int(sys.argv[2])))
write_clip(Path(sys.argv[1]), frames, fps=24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["gif", "webm"])
def test_memory_does_not_grow_with_the_length(tmp_path, ending):
    def most(num_frames: int) -> int:
        words = [sys.executable, "-c", WRITE, str(tmp_path / f"a.{ending}"), str(num_frames)]
        return int(subprocess.run(words, capture_output=True, check=True, text=True).stdout)

    assert most(240) - most(60) < 40_000  # kB; a frame has 768


def test_one_frame_is_a_png_with_its_very_pixels(tmp_path):
    path = tmp_path / "clip.png"
    assert write_clip(path, [colourful(1)], fps=24) == 1
    assert only(path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), colourful(1)[0])


@pytest.mark.parametrize("ending", ["webm", "gif", "png", "mp4"])
def test_the_same_frames_make_the_same_file_and_comment(tmp_path, ending):
    paths = [tmp_path / f"{name}.{ending}" for name in ("one", "two")]
    for path in paths:
        frames = colourful(1 if ending == "png" else 9)
        write_clip(path, [frames], fps=Fraction(25), comment=COMMENT)
        assert read_comment(path) == COMMENT
    assert paths[0].read_bytes() == paths[1].read_bytes()
    plain = tmp_path / f"plain.{ending}"
    write_clip(plain, [frames], fps=25)
    assert read_comment(plain) is None


@pytest.mark.parametrize("ending", ["webm", "gif", "png"])
def test_what_fails_leaves_nothing(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    frames = noise[:1] if ending == "png" else noise
    with files_of_at_most(2000), pytest.raises(UserError, match="cannot be written"):
        write_clip(tmp_path / f"a.{ending}", [frames], fps=24)
    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / f"a.{ending}", stopped(noise), fps=24)
    assert not any(tmp_path.iterdir())


def stopped(frames: np.ndarray):
    yield frames[:1]
    raise KeyboardInterrupt


def test_a_png_takes_one_frame(tmp_path):
    with pytest.raises(UserError, match=r"a \.png has one frame; a clip's name ends in \.mp4"):
        write_clip(tmp_path / "a.png", [colourful(2)], fps=24)
    assert not any(tmp_path.iterdir())


def test_every_ending_is_said(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.mp4, \.mov, \.webm, \.gif or, of one frame"):
        check_output(tmp_path / "a.mkv")
