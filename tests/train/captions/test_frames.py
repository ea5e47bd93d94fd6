import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.write import write_clip
from ltx_models.errors import UserError
from ltx_train.captions.frames import sample_frames


def write_greys(path, num_frames, *, height=64, width=96):
    """A clip that gets lighter by two grey levels a frame."""
    levels = np.arange(num_frames, dtype=np.uint8) * 2
    frames = np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3))
    write_clip(path, [np.ascontiguousarray(frames)], fps=24)
    return path


def numbers(pictures):
    """Which frames of such a clip the pictures are."""
    return [round(np.asarray(picture).mean() / 2) for picture in pictures]


def test_evenly_over_the_clip(tmp_path):
    found = numbers(sample_frames(write_greys(tmp_path / "a.mp4", 60)))
    assert np.allclose(found, [5, 15, 25, 35, 45, 55], atol=1)


def test_over_what_is_trained_on(tmp_path):
    path = write_greys(tmp_path / "a.mp4", 100)
    assert np.allclose(numbers(sample_frames(path, max_frames=25)), [2, 6, 10, 14, 18, 22], atol=1)
    halved = numbers(sample_frames(path, max_frames=25, fps=12))
    assert np.allclose(halved, [4, 12, 21, 29, 37, 46], atol=1)
    assert len(sample_frames(path, max_frames=1)) == 1


def test_of_a_short_clip_each_frame_once(tmp_path):
    found = numbers(sample_frames(write_greys(tmp_path / "a.mp4", 3)))
    assert np.allclose(found, [0, 1, 2], atol=0.6)


def test_a_still_is_shown_once_and_as_it_is(tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    (picture,) = sample_frames(tmp_path / "a.png")
    assert picture.size == (40, 20)
    assert picture.getpixel((3, 3)) == (255, 0, 0)


def test_large_pictures_are_shown_smaller_in_their_shape(tmp_path):
    Image.new("RGB", (2048, 1024)).save(tmp_path / "a.png")
    (picture,) = sample_frames(tmp_path / "a.png")
    assert picture.size == (512, 256)
    pictures = sample_frames(write_greys(tmp_path / "a.mp4", 2, height=640, width=320))
    assert {picture.size for picture in pictures} == {(256, 512)}


def test_what_is_no_clip(tmp_path):
    (tmp_path / "a.mp4").write_text("a text")
    with pytest.raises(UserError, match=r"a\.mp4: not a video"):
        sample_frames(tmp_path / "a.mp4")
