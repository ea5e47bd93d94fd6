import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ltx_infer.media.masks import Padding, pad_video, read_mask, token_weights
from ltx_models.errors import UserError
from tests.infer.media.odd_media import counting, write_video

# Files


def test_a_picture_holds_for_every_frame(tmp_path):
    half = np.zeros((32, 64), np.uint8)
    half[:, 32:] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", num_frames=3, height=16, width=32)
    assert mask.shape == (1, 1, 3, 16, 32)
    assert mask.dtype == np.float32
    assert (mask[..., :16] == 0).all()
    assert (mask[..., 16:] == 1).all()


def test_a_video_is_a_mask_a_frame(tmp_path):
    path = write_video(tmp_path / "mask.mp4", counting(5))
    mask = read_mask(path, num_frames=3, height=32, width=32)
    assert mask.shape == (1, 1, 3, 32, 32)
    np.testing.assert_allclose(mask[0, 0, :, 5, 5], np.arange(3) * 10 / 255, atol=2 / 255)


def test_an_animation_is_a_mask_a_frame(tmp_path):
    black, white = (Image.new("L", (32, 32), level) for level in (0, 255))
    path = tmp_path / "mask.gif"
    black.save(path, save_all=True, append_images=[white], duration=100)
    assert read_mask(path, num_frames=2, height=8, width=8)[0, 0, :, 0, 0].tolist() == [0, 1]


def test_a_video_mask_that_is_too_short_is_an_error(tmp_path):
    path = write_video(tmp_path / "mask.mp4", counting(5))
    with pytest.raises(UserError, match=r"mask\.mp4: the mask has 5 frames, the clip 9"):
        read_mask(path, num_frames=9, height=32, width=32)


# Tokens


def test_a_token_has_the_mean_of_its_pixels():
    mask = np.zeros((1, 1, 9, 64, 64), np.float32)
    mask[:, :, 0, :32, :32] = 1
    mask[:, :, 1:5, 32:, 32:48] = 1
    weights = token_weights(mask, grid=(2, 2, 2))
    assert weights.shape == (1, 8)
    np.testing.assert_allclose(weights[0], [1, 0, 0, 0, 0, 0, 0, 0.25])


def test_a_single_frame_is_a_single_latent_frame():
    assert token_weights(np.ones((2, 1, 1, 32, 64), np.float32), grid=(1, 1, 2)).shape == (2, 2)


@settings(max_examples=50, deadline=None)
@given(
    frames=st.integers(1, 4),
    group=st.integers(1, 8),
    sides=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    value=st.floats(0, 1, width=32),
)
def test_a_constant_mask_stays_constant(frames, group, sides, value):
    mask = np.full((1, 1, 1 + (frames - 1) * group, *sides), value, np.float32)
    np.testing.assert_allclose(token_weights(mask, grid=(frames, 3, 4)), value, atol=1e-6)


@pytest.mark.parametrize(("num_frames", "latent"), [(9, 4), (10, 3)])
def test_frames_that_do_not_group_are_an_error(num_frames, latent):
    with pytest.raises(ValueError, match=f"{num_frames} frames do not make {latent} latent frames"):
        token_weights(np.zeros((1, 1, num_frames, 8, 8), np.float32), grid=(latent, 2, 2))


def test_a_single_latent_frame_is_the_first_frame():
    mask = np.zeros((1, 1, 9, 8, 8), np.float32)
    mask[:, :, 0, :4] = 1
    np.testing.assert_allclose(token_weights(mask, grid=(1, 2, 1)), [[1, 0]])


# Padding


def test_the_room_around_a_video_is_masked():
    frames = np.full((2, 32, 64, 3), 255, np.uint8)
    frames[:, :, :32] = 0
    video, mask = pad_video(frames, padding=Padding(64, 0, 32, 32), height=64, width=160)
    assert video.shape == (1, 3, 2, 64, 160)
    assert mask.shape == (1, 1, 2, 64, 160)
    assert video.dtype == mask.dtype == np.float32
    assert (mask[..., :32, 64:128] == 0).all()
    assert mask.sum() == 2 * (64 * 160 - 32 * 64)
    assert (video[..., :64] == -1).all()  # the colours of the edge go on
    assert (video[..., 128:] == 1).all()


def test_padding_that_leaves_no_room_is_an_error():
    with pytest.raises(UserError, match=r"--pad 32,0,32,0 leaves no room .* in a clip of 64x64"):
        pad_video([], padding=Padding(32, 0, 32, 0), height=64, width=64)
