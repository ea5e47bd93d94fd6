"""Errors while a clip is written, after which nothing is left."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.write import check_output, write_clip
from ltx_models.errors import UserError
from tests.infer.media.written import files_of_at_most, moving, only, read


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "clip.mp4"


def broken(error: BaseException, *, after: int) -> Iterator[np.ndarray]:
    for _ in range(after):
        yield moving(9)
    raise error


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, UserError, OSError])
def test_an_error_of_the_frames_passes_through_and_leaves_no_file(path, kind, after):
    error = kind("the decoder's own")
    with pytest.raises(kind) as caught:
        write_clip(path, broken(error, after=after), fps=24)
    assert caught.value is error
    assert not any(path.parent.iterdir())


def test_an_error_leaves_an_older_file_as_it_was(path):
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        write_clip(path, broken(KeyboardInterrupt(), after=1), fps=24)
    assert path.read_bytes() == b"older"
    assert only(path)
    write_clip(path, [moving(3)], fps=24)
    assert len(read(path).planes) == 3
    assert only(path)


def test_the_same_frames_make_the_same_file(tmp_path):
    """Soft colours that fade, of which x264's fastest code makes another file each time."""
    noise = np.random.default_rng(0)
    coarse = noise.normal(size=(7, 3, 6, 6)).astype(np.float32)
    soft = [
        [Image.fromarray(c).resize((64, 64), Image.Resampling.BICUBIC) for c in p] for p in coarse
    ]
    keys = np.array([np.stack(p, axis=-1) for p in soft]) * 50 + 128
    fades = [keys[i // 8] + (keys[i // 8 + 1] - keys[i // 8]) * (i % 8) / 8 for i in range(41)]
    frames = (np.stack(fades) + noise.normal(size=(41, 64, 64, 3)) * 6).clip(0, 255)
    frames = frames.astype(np.uint8)
    files = []
    for number in range(4):
        holes = [np.ones(size) for size in noise.integers(1000, 100_000, 20)]
        del holes[::2]  # so that memory is not the same each time
        write_clip(tmp_path / f"{number}.mp4", [frames], fps=24)
        files.append((tmp_path / f"{number}.mp4").read_bytes())
    assert len(set(files)) == 1


def test_a_disk_that_is_full_is_told_and_leaves_no_file(path):
    frames = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    with files_of_at_most(20_000), pytest.raises(UserError) as error:
        write_clip(path, [frames], fps=24)
    assert str(error.value) == f"{path}: cannot be written: {os.strerror(27)}"
    assert not any(path.parent.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clip.avi", r"ends in \.mp4, \.mov, \.webm, \.gif or, of one frame, \.png"),
        ("clip", r"ends in \.mp4, \.mov, \.webm, \.gif or, of one frame, \.png"),
        ("nowhere/clip.mp4", "there is no folder .*nowhere"),
        ("file/clip.mp4", "there is no folder .*file"),
        ("folder.mp4", "no file can be written there"),
    ],
)
def test_a_place_that_takes_no_clip_is_named(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for attempt in (check_output, lambda path: write_clip(path, [moving(2)], fps=24)):
        with pytest.raises(UserError, match=reason) as error:
            attempt(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("frames", "kind", "reason"),
    [
        (moving(2, width=33), UserError, "a .mp4 needs an even width and height, not 33x32"),
        (moving(2, height=31), UserError, "a .mp4 needs an even width and height, not 64x31"),
        (moving(0), UserError, "there is no frame to write"),
        (np.full((1, 32, 32, 3), np.nan), UserError, "frames hold values that are not finite"),
        (np.zeros((32, 32, 3)), ValueError, r"frames are \(F, H, W, 3\), not \(32, 32, 3\)"),
        (np.zeros((1, 32, 32, 4)), ValueError, r"not \(1, 32, 32, 4\)"),
        (np.zeros((1, 32, 32, 3), np.int32), ValueError, "frames are uint8 or float, not int32"),
    ],
)
def test_frames_that_make_no_clip_are_an_error(path, frames, kind, reason):
    with pytest.raises(kind, match=reason):
        write_clip(path, [frames], fps=24)
    assert not any(path.parent.iterdir())


def test_frames_of_two_sizes_are_an_error(path):
    with pytest.raises(ValueError, match=r"frames of \(32, 64, 3\) and of \(64, 64, 3\)"):
        write_clip(path, [moving(2), moving(2, height=64)], fps=24)
    assert not any(path.parent.iterdir())
