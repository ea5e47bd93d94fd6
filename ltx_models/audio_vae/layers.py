"""Layers of the audio VAE (spec/model.md 5.2).

Activations are (B, T, M, C): batch, time, mel bin, channel. Convolutions see no later time; over
the mel bins they are centred.
"""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.activations import silu

EPS = 1e-6


def pixel_norm(x: mx.array) -> mx.array:
    """Divide by the root mean square over the channels."""
    return mx.fast.rms_norm(x, None, EPS)


class CausalConv2d(nn.Module):
    """A convolution whose window ends at the present; its key is ``conv``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.reach = kernel_size - 1

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, C) to (B, T, M, out_channels)."""
        side = self.reach // 2
        return self.conv(mx.pad(x, [(0, 0), (self.reach, 0), (side, side), (0, 0)]))


class ResnetBlock(nn.Module):
    """Two convolutions around which x, by way of a 1x1 convolution if it grows, is added."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = CausalConv2d(in_channels, out_channels, 3)
        self.conv2 = CausalConv2d(out_channels, out_channels, 3)
        if in_channels != out_channels:
            self.nin_shortcut = CausalConv2d(in_channels, out_channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, in_channels) to (B, T, M, out_channels)."""
        update = self.conv1(silu(pixel_norm(x)))
        update = self.conv2(silu(pixel_norm(update)))
        return update + (self.nin_shortcut(x) if "nin_shortcut" in self else x)


class Mid(nn.Module):
    """The two blocks at the coarsest level."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.block_2 = ResnetBlock(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, C) to the same."""
        return self.block_2(self.block_1(x))


class Downsample(nn.Module):
    """Half as many mel bins and, rounded up, half as many frames."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, C) to (B, ceil(T / 2), M / 2, C)."""
        return self.conv(mx.pad(x, [(0, 0), (2, 0), (0, 1), (0, 0)]))


class Upsample(nn.Module):
    """Twice as many mel bins and, but for the first frame, twice as many frames."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = CausalConv2d(channels, channels, 3)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, C) to (B, 2 T - 1, 2 M, C)."""
        return self.conv(mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2))[:, 1:]


class Level(nn.Module):
    """Residual blocks, and in some levels a change of resolution after them."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        downsample: bool = False,
        upsample: bool = False,
    ):
        super().__init__()
        self.block = [
            ResnetBlock(out_channels if i else in_channels, out_channels) for i in range(num_blocks)
        ]
        if downsample:
            self.downsample = Downsample(out_channels)
        if upsample:
            self.upsample = Upsample(out_channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, M, in_channels) to (B, T', M', out_channels)."""
        for block in self.block:
            x = block(x)
        if "downsample" in self:
            x = self.downsample(x)
        if "upsample" in self:
            x = self.upsample(x)
        return x
