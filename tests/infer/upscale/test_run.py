"""Pictures and clips through the stand-in's upscalers."""

import json
from fractions import Fraction
from pathlib import Path

import av
import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer.config import checked
from ltx_infer.upscale import UpscaleConfig, upscale
from ltx_models.errors import UserError
from tests.infer.media.odd_media import quarters, write_sound, write_video

STARTS = [0, 40, 95, 120, 190, 210]  # thousandths of a second


def run(source: Path, output: Path, say=lambda _line: None, **given) -> Path:
    values = {"model": "tiny", "input": source, "output": output, **given}
    upscale(checked(UpscaleConfig, values), say=say)
    return output


def noise(num_frames: int, *, height: int = 20, width: int = 30) -> np.ndarray:
    """Frames of noise, no two of which are alike."""
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def clip_of(path: Path) -> tuple[np.ndarray, list[Fraction]]:
    """Frames (F, H, W, 3), and when they are shown."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), times


def picture_of(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


@pytest.fixture
def film(tiny, tmp_path: Path) -> Path:
    """A clip whose frames are shown for different times."""
    unit = Fraction(1, 1000)
    return write_video(tmp_path / "film.mp4", noise(6), times=STARTS, unit=unit)


# Clips


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 40, 60), (1.5, 30, 46)])
def test_a_clip_is_larger_and_its_times_are_kept(film, tmp_path, scale, height, width):
    said = []
    out = run(film, tmp_path / "out.mp4", said.append, scale=scale)
    frames, times = clip_of(out)
    assert frames.shape == (6, height, width, 3)
    assert times == [Fraction(start, 1000) for start in STARTS]
    rounded = f"{film}: 30x20 becomes 46x30"
    assert (rounded in said) == (scale == 1.5)  # 45 columns would be odd


def test_twice_the_frames_in_the_same_time(film, tmp_path):
    frames, times = clip_of(run(film, tmp_path / "out.mp4", temporal=True))
    assert frames.shape == (11, 20, 30, 3)
    assert times[::2] == [Fraction(start, 1000) for start in STARTS]
    assert times[1::2] == [(a + b) / 2 for a, b in zip(times[::2], times[2::2], strict=False)]


def test_both_at_once(film, tmp_path):
    frames, _ = clip_of(run(film, tmp_path / "out.mov", temporal=True, scale=2))
    assert frames.shape == (11, 40, 60, 3)


def test_one_frame_of_an_odd_size(tiny, tmp_path):
    film = write_video(
        tmp_path / "f.mkv", noise(1, height=3, width=5), codec="ffv1", pix_fmt="bgr0"
    )
    frames, _ = clip_of(run(film, tmp_path / "out.mp4", temporal=True))
    assert frames.shape == (1, 4, 6, 3)


def test_a_turned_clip_is_upright(tiny, tmp_path):
    film = write_video(tmp_path / "f.mp4", noise(2), turn=(90, False, False))
    frames, _ = clip_of(run(film, tmp_path / "out.mp4"))
    assert frames.shape == (2, 60, 40, 3)


def test_pictures_without_sound_begin_with_the_sound(tiny, tmp_path):
    """A clip whose picture begins later than its sound keeps it so."""
    silent = write_video(tmp_path / "s.mp4", noise(3), times=[10, 11, 12], unit=Fraction(1, 25))
    sound = write_sound(tmp_path / "s.m4a", np.zeros((2, 24000)), codec="aac")
    with (
        av.open(str(silent)) as one,
        av.open(str(sound)) as two,
        av.open(str(tmp_path / "film.mp4"), "w") as film,
    ):
        tracks = [film.add_stream_from_template(f.streams[0]) for f in (one, two)]
        for source, track in zip((one, two), tracks, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = track
                    film.mux(packet)
    out = run(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert clip_of(out)[1] == clip_of(tmp_path / "film.mp4")[1]
    assert clip_of(out)[1][0] == Fraction(10, 25)
    alone = run(silent, tmp_path / "alone.mp4")
    assert clip_of(alone)[1][0] == 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tiny, tmp_path):
    peaks = []
    for num_frames in (180, 360):
        film = write_video(tmp_path / "f.mp4", noise(num_frames, height=32, width=32))
        mx.reset_peak_memory()
        frames, _ = clip_of(run(film, tmp_path / f"{num_frames}.mp4"))
        assert len(frames) == num_frames
        peaks.append(mx.get_peak_memory())
    assert peaks[1] < 1.02 * peaks[0]


# Refining


@pytest.mark.slow
def test_refining_depends_on_the_seed_alone(film, tmp_path):
    def refined(name: str, seed: int) -> np.ndarray:
        out = run(film, tmp_path / name, refine=True, prompt="a boat", seed=seed)
        return clip_of(out)[0]

    first = refined("a.mp4", 1)
    assert first.shape == (6, 40, 60, 3)
    assert np.array_equal(first, refined("b.mp4", 1))
    assert not np.array_equal(first, refined("c.mp4", 2))


@pytest.mark.slow
@pytest.mark.parametrize("temporal", [False, True])
def test_a_refined_part_goes_on_as_the_one_before_ends(tiny, tmp_path, temporal):
    """At the seam frames differ from each other as they do elsewhere."""
    still = np.repeat(quarters()[None], 110, axis=0)
    film = write_video(tmp_path / "f.mp4", still)
    given = {"refine": True, "prompt": "a boat", "temporal": temporal, "scale": 2}
    frames, _ = clip_of(run(film, tmp_path / "out.mp4", **given))
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    seam = slice(140, 195) if temporal else slice(70, 98)
    assert steps[seam].max() < 1.5 * np.delete(steps, seam).max()


# Pictures


def test_a_picture_keeps_what_is_transparent(tiny, tmp_path):
    picture = Image.fromarray(quarters(height=33, width=21))
    picture.putalpha(Image.linear_gradient("L").resize((21, 33)))
    picture.save(tmp_path / "a.png")
    large = picture_of(run(tmp_path / "a.png", tmp_path / "b.png"))
    assert (large.size, large.mode) == ((42, 66), "RGBA")
    alpha = np.asarray(large.getchannel("A")).astype(int)
    assert (np.diff(alpha[:, 0]) >= 0).all()
    assert alpha[0, 0] < 8
    assert alpha[-1, 0] > 247
    assert picture_of(run(tmp_path / "a.png", tmp_path / "c.webp", scale=1.5)).size == (32, 50)


def test_a_jpeg_has_no_transparency_and_that_is_said(tiny, tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 100)).save(tmp_path / "a.png")
    said = []
    out = run(tmp_path / "a.png", tmp_path / "b.jpg", said.append)
    assert picture_of(out).mode == "RGB"
    assert f"{tmp_path}/a.png: its transparent parts become white, as a .jpg has none" in said


def test_a_turned_photograph_is_upright(tiny, tmp_path):
    photograph = Image.fromarray(quarters(height=32, width=48))
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "a.jpg", exif=exif)
    assert picture_of(run(tmp_path / "a.jpg", tmp_path / "b.jpg")).size == (64, 96)


# Words


def test_settings_in_the_comment_are_kept_and_added_to(film, tmp_path):
    once = run(film, tmp_path / "a.png.mp4")
    twice = run(once, tmp_path / "b.mp4", scale=1.5)
    with av.open(str(twice)) as container:
        said = json.loads(container.metadata["comment"])
    assert [step["scale"] for step in said["upscaled"]] == [2.0, 1.5]
    assert "ltx-mlx" in said


@pytest.mark.parametrize("words", ["a holiday", '{"ltx-mlx": "1", "upscaled": 2}', "[" * 30_000])
def test_another_comment_is_left_as_it_is(tiny, tmp_path, words):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", comment=words.encode())
    assert picture_of(run(tmp_path / "a.jpg", tmp_path / "b.png")).info["comment"] == words


# Errors


def refused(source: Path, output: Path, **given) -> str:
    with pytest.raises(UserError) as error:
        run(source, output, **given)
    assert not output.exists() or output == source
    return str(error.value)


def test_what_cannot_be(film, tmp_path):
    png, here = tmp_path / "a.png", film.read_bytes()
    Image.new("RGB", (8, 8)).save(png)
    assert refused(film, film) == f"--output {film}: is the input"
    assert film.read_bytes() == here
    assert refused(film, tmp_path / "b.png").endswith(
        "is the name of a picture, and the input is a video"
    )
    assert "the name of a picture ends in" in refused(png, tmp_path / "b.mp4")
    assert "there is no such file" in refused(tmp_path / "none.mp4", tmp_path / "b.mp4")
    said = refused(film, tmp_path / "b.mp4", scale=1.5, spatial_upscaler="x2")
    assert said.startswith("--scale 1.5: ")
    assert said.endswith("scales by 2")


def test_an_upscaler_of_the_other_kind(film, tiny, tmp_path):
    (temporal,) = tiny.glob("*temporal-upscaler*")
    said = refused(film, tmp_path / "b.mp4", spatial_upscaler=str(temporal))
    assert "it adds frames; a spatial upscaler is wanted here" in said


def test_a_model_without_a_temporal_upscaler(film, tiny, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (checkpoint,) = tiny.glob("*tiny.safetensors")
    (folder / checkpoint.name).symlink_to(checkpoint)
    said = refused(film, tmp_path / "b.mp4", model=str(folder), temporal=True)
    assert said.startswith(f"{folder}: no temporal upscaler (*temporal-upscaler-x2*.safetensors)")


def test_a_clip_that_changes_its_size(tiny, tmp_path):
    """Frames that were read before do not become half a clip."""
    both = tmp_path / "both.mpg"
    with both.open("wb") as file:
        for size in (32, 64):
            frames, part = noise(3, height=size, width=size), tmp_path / f"{size}.mpg"
            write_video(part, frames, codec="mpeg2video", unit=Fraction(1, 25))
            file.write(part.read_bytes())
    assert refused(both, tmp_path / "out.mp4").endswith("its frames are not all of one size")
    assert not list(tmp_path.glob(".*"))
