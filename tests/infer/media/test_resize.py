import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltx_infer.media.resize import cover, temporal_subsample, to_pixels

SIDES = st.integers(1, 40)


def test_a_picture_of_the_right_size_is_unchanged():
    picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cover(picture, height=8, width=6), picture)


def test_twice_the_size_is_bilinear():
    picture = np.array([[0.0, 100.0]])[:, :, None]
    got = cover(picture, height=2, width=4)[0, :, 0]
    np.testing.assert_allclose(got, [0, 25, 75, 100])


def test_half_the_size_is_the_mean_of_the_two_in_the_middle():
    picture = np.arange(8.0)[None, :, None].repeat(2, 0)
    np.testing.assert_allclose(cover(picture, height=1, width=4)[0, :, 0], [0.5, 2.5, 4.5, 6.5])


@pytest.mark.parametrize(("shape", "axis"), [((20, 60), 1), ((60, 20), 0)])
def test_the_middle_is_kept(shape, axis):
    picture = np.zeros((*shape, 3), np.uint8)
    middle = [slice(None)] * 2
    middle[axis] = slice(20, 40)
    picture[tuple(middle)] = 255
    np.testing.assert_array_equal(cover(picture, height=20, width=20), 255)


@settings(max_examples=100, deadline=None)
@given(height=SIDES, width=SIDES, data=st.data())
def test_any_size_fits_any_size_within_its_values(height, width, data):
    picture = data.draw(hnp.arrays(np.uint8, (data.draw(SIDES), data.draw(SIDES), 3)))
    got = cover(picture, height=height, width=width)
    assert got.shape == (height, width, 3)
    assert got.dtype == np.float32
    assert got.min() >= int(picture.min()) - 1e-3
    assert got.max() <= int(picture.max()) + 1e-3


def test_bytes_become_numbers_between_minus_one_and_one():
    frames = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 255, 51)])
    pixels = to_pixels(iter(frames), height=2, width=2)
    assert pixels.shape == (1, 3, 3, 2, 2)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0, 0, :, 0, 0], [-1, 1, -0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("num_frames", "factor", "kept"),
    [(9, 1, list(range(9))), (9, 2, [0, 1, 3, 5, 7]), (17, 8, [0, 1, 9]), (1, 4, [0])],
)
def test_subsampling_keeps_the_first_frame(num_frames, factor, kept):
    video = np.arange(num_frames, dtype=np.float32).reshape(1, 1, num_frames, 1, 1)
    assert temporal_subsample(video, factor=factor).ravel().tolist() == kept


def test_subsampling_by_nothing_is_an_error():
    with pytest.raises(ValueError, match="a video cannot be subsampled by 0"):
        temporal_subsample(np.zeros((1, 1, 9, 1, 1)), factor=0)
