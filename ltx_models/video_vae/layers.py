"""What encoder and decoder of the video VAE are built of (spec/model.md 4.1).

Everything works channels-last, (B, F, H, W, C): B batch, F frames, H height, W width, C channels.
"""

from collections.abc import Callable
from math import prod

import mlx.core as mx
import mlx.nn as nn

from ltx_models.activations import silu
from ltx_models.config import ConfigError
from ltx_models.errors import UserError
from ltx_models.video_vae.config import Padding

Stride = tuple[int, int, int]  # (frames, height, width)
Convolution = Callable[..., "CausalConv3d"]  # with its padding given

NORM_EPS = 1e-8
SHORTCUT_NORM_EPS = 1e-6


def norm_silu(x: mx.array) -> mx.array:
    """SiLU of x / sqrt(mean of x squared over the channels + 1e-8); the shape of x."""
    return silu(mx.fast.rms_norm(x, None, NORM_EPS))


def space_to_depth(x: mx.array, stride: Stride) -> mx.array:
    """(B, F, H, W, C) to (B, F/t, H/h, W/w, C*t*h*w), channels in the order (c, t, h, w)."""
    B, F, H, W, C = x.shape
    t, h, w = stride
    x = x.reshape(B, F // t, t, H // h, h, W // w, w, C)
    return x.transpose(0, 1, 3, 5, 7, 2, 4, 6).flatten(4)


def depth_to_space(x: mx.array, stride: Stride) -> mx.array:
    """Inverse of ``space_to_depth``: (B, F, H, W, C*t*h*w) to (B, F*t, H*h, W*w, C)."""
    B, F, H, W, _ = x.shape
    t, h, w = stride
    x = x.reshape(B, F, H, W, -1, t, h, w).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(B, F * t, H * h, W * w, -1)


def patchify(video: mx.array, size: int) -> mx.array:
    """(B, C, F, H, W) to (B, F, H/s, W/s, C*s*s), channels in the order (c, column, row)."""
    B, C, F, H, W = video.shape
    x = video.reshape(B, C, F, H // size, size, W // size, size)
    return x.transpose(0, 2, 3, 5, 1, 6, 4).flatten(4)


def unpatchify(x: mx.array, size: int) -> mx.array:
    """Inverse of ``patchify``: (B, F, H, W, C*s*s) to (B, C, F, H*s, W*s)."""
    B, F, H, W, _ = x.shape
    x = x.reshape(B, F, H, W, -1, size, size).transpose(0, 4, 1, 2, 6, 3, 5)
    return x.reshape(B, -1, F, H * size, W * size)


def mirror(x: mx.array) -> mx.array:
    """One row and column more on every side, the border itself not repeated.

    Raises UserError if there is only one row or column, which has nothing to mirror.
    """
    if min(x.shape[2:4]) < 2:
        raise UserError(
            f"{x.shape[2]} x {x.shape[3]} latents are too few: this VAE pads by reflection, which "
            "needs two rows and two columns\nUse a larger picture, or larger tiles."
        )
    x = mx.concatenate([x[:, :, 1:2], x, x[:, :, -2:-1]], axis=2)
    return mx.concatenate([x[:, :, :, 1:2], x, x[:, :, :, -2:-1]], axis=3)


def convolve(conv: nn.Conv3d, x: mx.array) -> mx.array:
    """A convolution of (B, F, H, W, C), in the way that the device is fast at."""
    return conv_by_frames(conv, x) if mx.default_device() == mx.cpu else conv(x)


def conv_by_frames(conv: nn.Conv3d, x: mx.array) -> mx.array:
    """``conv(x)`` for one that does not pad time, as 2-D convolutions of single frames.

    On a CPU conv3d unfolds the whole clip, which takes 27 times its memory; this takes less, and
    less time the longer the clip is (docs/experiments.md).
    """
    out_channels, num_taps = conv.weight.shape[:2]
    # A copy in which each tap lies in one piece.
    taps = mx.unflatten(conv.weight.moveaxis(1, 0).flatten(0, 1), 0, (num_taps, out_channels))

    def frame(start: int) -> mx.array:
        first, *rest = (
            mx.conv2d(x[:, start + i], tap, conv.stride[1:], conv.padding[1:])
            for i, tap in enumerate(taps)
        )
        return sum(rest, first)

    starts = range(0, x.shape[1] - num_taps + 1, conv.stride[0])
    return mx.stack([frame(start) for start in starts], axis=1) + conv.bias


class CausalConv3d(nn.Module):
    """A 3x3x3 convolution of (B, F, H, W, C) that keeps F, H and W (divided by the stride, if any).

    Time is padded with copies of the first frame (causal), or of the first and of the last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        causal: bool,
        padding: Padding,
        stride: Stride = (1, 1, 1),
    ):
        super().__init__()
        self.causal = causal
        self.mirrored = padding == "reflect"
        space = 0 if self.mirrored else 1
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride, (0, space, space))

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, in_channels) to (B, F, H, W, out_channels)."""
        first, last = x[:, :1], x[:, -1:]
        x = mx.concatenate([first, first, x] if self.causal else [first, x, last], axis=1)
        return self.convolve(x)

    def convolve(self, x: mx.array) -> mx.array:
        """(B, F + 2, H, W, in_channels), padded in time, to (B, F, H, W, out_channels)."""
        return convolve(self.conv, mirror(x) if self.mirrored else x)


class ResnetBlock(nn.Module):
    """Twice norm, SiLU and convolution, added to x; x is projected where its channels change."""

    def __init__(self, in_channels: int, out_channels: int, *, conv: Convolution):
        super().__init__()
        self.conv1 = conv(in_channels, out_channels)
        self.conv2 = conv(out_channels, out_channels)
        self.projects = in_channels != out_channels
        if self.projects:
            self.norm3 = nn.GroupNorm(
                1, in_channels, eps=SHORTCUT_NORM_EPS, pytorch_compatible=True
            )
            self.conv_shortcut = nn.Conv3d(in_channels, out_channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, in_channels) to (B, F, H, W, out_channels)."""
        h = self.conv2(norm_silu(self.conv1(norm_silu(x))))
        return h + (self.conv_shortcut(self.norm3(x)) if self.projects else x)


class ResnetStack(nn.Module):
    """Residual blocks one after another, under the checkpoint's key ``res_blocks``."""

    def __init__(self, channels: int, *, num_layers: int, conv: Convolution):
        super().__init__()
        self.res_blocks = [ResnetBlock(channels, channels, conv=conv) for _ in range(num_layers)]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, channels) to the same shape."""
        for block in self.res_blocks:
            x = block(x)
        return x


class Downsample(nn.Module):
    """Space to depth of a convolution, plus the means of channel groups of space to depth of x."""

    def __init__(self, channels: int, out_channels: int, *, stride: Stride, conv: Convolution):
        super().__init__()
        size = prod(stride)
        if out_channels % size or channels * size % out_channels:
            raise ConfigError(
                f"config.vae: a block cannot bring {channels} channels to {out_channels} "
                f"when it folds {size} positions into one"
            )
        self.stride = stride
        self.out_channels = out_channels
        self.conv = conv(channels, out_channels // size)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, channels) to (B, F', H/h, W/w, out_channels); F' is (F + 1)/2 or F."""
        if self.stride[0] == 2:
            x = mx.concatenate([x[:, :1], x], axis=1)
        skip = mx.unflatten(space_to_depth(x, self.stride), -1, (self.out_channels, -1))
        return space_to_depth(self.conv(x), self.stride) + skip.mean(axis=-1)


class Upsample(nn.Module):
    """Depth to space of a convolution; with ``residual``, plus that of x with channels repeated."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        stride: Stride,
        residual: bool,
        conv: Convolution,
    ):
        super().__init__()
        size = prod(stride)
        if residual and (channels % size or out_channels % (channels // size)):
            raise ConfigError(
                f"config.vae: a residual block cannot bring {channels} channels to {out_channels} "
                f"when it unfolds one position into {size}"
            )
        self.stride = stride
        self.residual = residual
        self.conv = conv(channels, out_channels * size)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, channels) to (B, F', H*h, W*w, out_channels); F' is 2F - 1 or F."""
        y = self.unfold(self.conv(x), x)
        return y[:, 1:] if self.stride[0] == 2 else y

    def unfold(self, y: mx.array, x: mx.array) -> mx.array:
        """What the convolution made of x, unfolded; the first of two frames is not dropped yet."""
        y = depth_to_space(y, self.stride)
        if self.residual:
            skip = depth_to_space(x, self.stride)
            y = (mx.unflatten(y, -1, (-1, skip.shape[-1])) + skip[..., None, :]).flatten(-2)
        return y
