import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.config import ConfigError
from ltx_models.errors import UserError
from ltx_models.video_vae.layers import (
    CausalConv3d,
    Downsample,
    ResnetBlock,
    Upsample,
    conv_by_frames,
    depth_to_space,
    mirror,
    norm_silu,
    patchify,
    space_to_depth,
    unpatchify,
)

strides = st.tuples(*[st.sampled_from([1, 2])] * 3)


def conv(*channels, **options):
    return CausalConv3d(*channels, causal=True, padding="zeros", **options)


@given(stride=strides, frames=st.integers(3, 6), padding=st.sampled_from([0, 1]))
@settings(deadline=None, max_examples=20)
def test_convolution_by_frames_is_conv3d(stride, frames, padding):
    layer = nn.Conv3d(3, 5, 3, stride, (0, padding, padding))
    x = mx.random.normal((2, frames, 5, 6, 3))
    assert mx.allclose(conv_by_frames(layer, x), layer(x), atol=1e-5)


@given(stride=strides)
@settings(deadline=None, max_examples=8)
def test_depth_to_space_inverts(stride):
    x = mx.random.normal((2, 4, 6, 2, 3))
    folded = space_to_depth(x, stride)
    assert folded.shape[-1] == 3 * np.prod(stride)
    assert mx.array_equal(depth_to_space(folded, stride), x)


def test_space_to_depth_orders_channels_first_then_time_height_width():
    x = mx.random.normal((1, 2, 2, 2, 3))
    folded = space_to_depth(x, (2, 2, 2))[0, 0, 0, 0]
    wanted = [x[0, t, h, w, c] for c in range(3) for t in (0, 1) for h in (0, 1) for w in (0, 1)]
    assert mx.array_equal(folded, mx.stack(wanted))


def test_patches_order_columns_before_rows():
    video = mx.random.normal((2, 3, 2, 8, 12))
    patches = patchify(video, 4)
    assert patches.shape == (2, 2, 2, 3, 48)
    column, row = 1, 2
    assert patches[1, 0, 1, 2, (2 * 4 + column) * 4 + row] == video[1, 2, 0, 4 + row, 8 + column]
    assert mx.array_equal(unpatchify(patches, 4), video)


def test_mirror_is_numpys_reflection():
    x = mx.random.normal((1, 2, 3, 4, 2))
    wanted = np.pad(np.array(x), [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    assert np.array_equal(np.array(mirror(x)), wanted)


@pytest.mark.parametrize("size", [(1, 4), (4, 1)])
def test_mirror_needs_two_rows_and_columns(size):
    with pytest.raises(UserError, match=r"latents are too few: this VAE pads by reflection"):
        mirror(mx.zeros((1, 1, *size, 2)))


def test_norm_silu():
    x = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8)
    assert np.allclose(np.array(norm_silu(mx.array(x))), normed / (1 + np.exp(-normed)), atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_in_time(causal):
    layer = CausalConv3d(2, 2, causal=causal, padding="zeros")
    x = mx.random.normal((1, 4, 3, 3, 2))
    later = mx.concatenate([x[:, :3], x[:, 3:] + 1], axis=1)
    same = mx.abs(layer(x) - layer(later)).max(axis=(0, 2, 3, 4)) == 0
    assert same.tolist() == ([True] * 3 + [False] if causal else [True] * 2 + [False] * 2)
    still = mx.repeat(x[:, :1], 4, axis=1)  # copies of a frame, padded with copies of it
    assert mx.allclose(layer(still), mx.repeat(layer(still)[:, :1], 4, axis=1), atol=1e-6)


def test_downsample_adds_the_means_of_groups():
    layer = Downsample(4, 8, stride=(2, 2, 2), conv=conv)
    layer.conv.conv.weight *= 0
    layer.conv.conv.bias *= 0
    x = mx.random.normal((1, 3, 4, 4, 4))
    y = layer(x)
    assert y.shape == (1, 2, 2, 2, 8)
    # Channels of the folded x: c, then 2 x 2 x 2 positions; a group of 4 has one c and one time.
    assert mx.allclose(y[0, 0, 0, 0, 0], x[0, 0, :2, :2, 0].mean(), atol=1e-6)
    assert mx.allclose(y[0, 1, 1, 0, 3], x[0, 2, 2:, :2, 1].mean(), atol=1e-6)


def test_upsample_adds_repeated_channels():
    layer = Upsample(16, 8, stride=(2, 2, 2), residual=True, conv=conv)
    layer.conv.conv.weight *= 0
    layer.conv.conv.bias *= 0
    x = mx.random.normal((1, 2, 2, 2, 16))
    y = layer(x)
    assert y.shape == (1, 3, 4, 4, 8)
    unfolded = depth_to_space(x, (2, 2, 2))[:, 1:]
    assert mx.array_equal(y, mx.concatenate([unfolded] * 4, axis=-1))


def test_channels_that_do_not_divide():
    with pytest.raises(ConfigError, match="cannot bring 3 channels to 6 when it folds 4 positions"):
        Downsample(3, 6, stride=(1, 2, 2), conv=conv)
    with pytest.raises(ConfigError, match="cannot bring 12 channels to 4 when it unfolds"):
        Upsample(12, 4, stride=(2, 2, 2), residual=True, conv=conv)


def test_a_block_that_changes_channels_projects_its_normed_input():
    block = ResnetBlock(2, 4, conv=conv)
    block.conv2.conv.weight *= 0
    block.conv2.conv.bias *= 0
    x = mx.random.normal((2, 3, 4, 5, 2)) * 3 + 1
    normed = (x - x.mean(axis=(1, 2, 3, 4), keepdims=True)) / x.std(
        axis=(1, 2, 3, 4), keepdims=True
    )
    wanted = normed @ block.conv_shortcut.weight.reshape(4, 2).T + block.conv_shortcut.bias
    assert mx.allclose(block(x), wanted, atol=1e-4)
