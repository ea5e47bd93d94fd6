from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from ltx_infer.media.video import stream_frames
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_train.inputs.buckets import parse_buckets
from ltx_train.inputs.item import Item
from ltx_train.inputs.sheet import WIDTH, Seen, sheet_lines, understand
from ltx_train.precompute.config import PrecomputeConfig
from tests.infer.media.odd_media import tone, write_video
from tests.train.media import TIMES, moving, write_with_sound

SCALE = VideoScale(8, 32)
BUCKETS = "64x32x9;64x32x17;32x64x9;64x32x1"


def look(*paths: Path, buckets: str = BUCKETS, **given):
    config = PrecomputeConfig(Path("data"), "tiny", parse_buckets(buckets), **given)
    items = [Item(path, path.name, f"a caption of {path.stem}") for path in paths]
    return understand(items, config, SCALE)


@pytest.fixture
def video(tmp_path):
    def write(name: str, frames: int, **how) -> Path:
        return write_video(tmp_path / name, moving(frames, frames=frames), **how)

    return write


def test_a_clip_in_its_bucket(video, tmp_path):
    turned = video("b.mov", 16, turn=(90, False, False))
    loud = np.stack([tone(0.8)] * 2)
    path = write_with_sound(tmp_path / "c.mp4", moving(1, frames=18), loud, layout="stereo")
    (one, two, three), outcomes = look(video("a.mp4", 12), turned, path)
    assert outcomes == []
    item = Item(tmp_path / "a.mp4", "a.mp4", "a caption of a")
    (short,) = parse_buckets("64x32x9")
    assert one == Seen(item, 12, Fraction(24), 40, 70, 0.5, False, False, False, short)
    assert (two.height, two.width, str(two.bucket)) == (70, 40, "32x64x9")
    assert (three.has_sound, str(three.bucket)) == (True, "64x32x17")


@pytest.mark.parametrize("fps", [8, 24, 25, 50])
@pytest.mark.parametrize(
    ("name", "codec", "times"),
    [
        ("a.mp4", "libx264", None),
        ("a.mkv", "libx264", TIMES),
        ("a.webm", "libvpx-vp9", None),
        ("a.webm", "libvpx-vp9", TIMES),
    ],
)
def test_frames_are_counted_as_they_will_be_read(video, name, codec, times, fps):
    unit = Fraction(1, 1000) if times else Fraction(1, 24)
    path = video(name, 11, times=times, unit=unit, codec=codec)
    _, (outcome,) = look(path, buckets="64x32x97", fps=fps)
    num_frames = sum(1 for _ in stream_frames(path, fps=fps))
    assert outcome.reason.startswith(f"too short: {num_frames} frames at {fps} a second")


def test_a_clip_is_not_promised_frames_that_it_lacks(video):
    """16 frames do not fill 17, though a header may be off by one; of many, few are counted."""
    (exact, long), _ = look(video("a.mkv", 16), video("b.mp4", 60))
    assert (exact.num_frames, str(exact.bucket)) == (16, "64x32x9")
    assert (long.num_frames, str(long.bucket)) == (60, "64x32x17")


def test_stills(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving(1, frames=3)]
    turned = Image.Exif()
    turned[0x0112] = 6
    frames[0].save(tmp_path / "a.jpg", exif=turned)
    frames[0].save(tmp_path / "b.gif")
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(tmp_path / "d.webp", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(tmp_path / "e.tiff", save_all=True, append_images=frames[1:])
    seen, outcomes = look(*sorted(tmp_path.iterdir()))
    assert [(one.item.name, one.width, one.height) for one in seen] == [
        ("a.jpg", 40, 70),
        ("b.gif", 70, 40),
        ("e.tiff", 70, 40),
    ]
    assert {(one.num_frames, one.fps, one.is_still, str(one.bucket)) for one in seen} == {
        (1, 1, True, "64x32x1")
    }
    assert outcomes == [
        ("c.gif", "skipped", "too short: 3 frames at 10 a second, 64x32x9 needs 9"),
        ("d.webp", "skipped", "an animation of 3 frames; as GIF or MP4 it would be a clip"),
    ]
    _, outcomes = look(tmp_path / "b.gif", buckets="64x32x9;32x64x9")
    assert outcomes == [
        ("b.gif", "skipped", "a still, and no bucket has 1 frame; 64x32x1 would fit")
    ]


def test_what_cannot_be_read_does_not_stop_the_rest(video, tmp_path):
    (tmp_path / "text.mp4").write_text("a text")
    (tmp_path / "text.png").write_text("a text")
    (tmp_path / "empty.mov").write_bytes(b"")
    (tmp_path / "cover.mp4").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.mp4", "png")
    seen, outcomes = look(*sorted(tmp_path.iterdir()), video("z.mp4", 9))
    assert [one.item.name for one in seen] == ["z.mp4"]
    assert {outcome.name: outcome.reason for outcome in outcomes} == {
        "cover.mp4": "is a picture, not a video",
        "empty.mov": "the file is empty",
        "text.mp4": "not a video or sound that can be read, or damaged",
        "text.png": "not a picture that can be read, as PNG, JPEG, WebP, GIF, TIFF or AVIF is",
    }
    assert {outcome.status for outcome in outcomes} == {"failed"}


def test_rates(video):
    path = video("a.webm", 11, times=TIMES, unit=Fraction(1, 1000), codec="libvpx-vp9")
    _, (outcome,) = look(path)
    assert outcome.reason.startswith("it says 1000 frames a second, as some do that have no fixed")
    (one,), _ = look(path, fps=24)
    assert (one.num_frames, one.fps) == (12, 24)
    (one,), _ = look(video("b.mp4", 9), fps=29.97)
    assert one.fps == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"buckets": "64x33x9"}, "--resolution-buckets 64x33x9: width and height are multiples"),
        (
            {"buckets": "64x32x9", "reference_downscale_factor": 2},
            "--reference-downscale-factor 2: width and height of a bucket are then multiples of "
            "64, not 64x32x9",
        ),
        (
            {"buckets": "64x64x25", "reference_temporal_scale_factor": 2},
            "--reference-temporal-scale-factor 2: the frames of a bucket are then a multiple of "
            "16 plus 1, not 64x64x25",
        ),
    ],
)
def test_buckets_that_make_no_latents(given, message):
    with pytest.raises(UserError) as error:
        look(**given)
    assert message in str(error.value)


def test_sheet(video, tmp_path):
    Image.new("RGB", (40, 70)).save(tmp_path / "s.png")
    clip = video("a.mp4", 12).rename(tmp_path / f"{'日本' * 20}.mp4")
    (tmp_path / "x.mp4").write_text("a text")
    seen, outcomes = look(clip, tmp_path / "s.png", tmp_path / "x.mp4")
    seen[0] = seen[0]._replace(item=seen[0].item._replace(caption="many\nwords " * 30))
    seen[1] = seen[1]._replace(item=seen[1].item._replace(caption=None))
    lines = sheet_lines(seen, [*outcomes, outcomes[0]._replace(reason="why " * 60)])
    assert max(map(cell_len, lines)) <= WIDTH
    assert lines[:5] == [
        "1 clips, 1 stills, 2 left out",
        "",
        "bucket   clips  stills  sound  HDR  seconds used",
        "64x32x1  0      1       0      0    0.0",
        "64x32x9  1      0       0      0    0.4",
    ]
    assert lines[6].split() == [
        "name",
        "frames",
        "rate",
        "seconds",
        "size",
        "sound",
        "bucket",
        "caption",
    ]
    name, *cells = lines[7].split()
    assert name.startswith("...")
    assert name.endswith("日本.mp4")
    assert cells[:8] == ["12", "24", "0.50", "70x40", "no", "64x32x9", "many", "words"]
    assert lines[8].split() == ["s.png", "still", "40x70", "no", "64x32x1", "(to", "be", "written)"]
    assert lines[10].startswith("failed: x.mp4: not a video")
    assert len(lines) == 14
    assert sheet_lines([], []) == ["0 clips, 0 stills, 0 left out"]
