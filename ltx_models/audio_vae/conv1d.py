"""Convolutions of the vocoders, over (B, L, C): batch, time, channel.

MLX computes dilated and transposed convolutions on the CPU in a plain loop, some fifty times slower
than an ordinary one. Both are ordinary ones in another layout, at no cost worth naming on a GPU.
"""

import mlx.core as mx
import mlx.nn as nn


class SameConv1d(nn.Conv1d):
    """A centred convolution with an odd kernel, with zeros beyond both ends."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        bias: bool = True,
    ):
        reach = dilation * (kernel_size // 2)
        super().__init__(
            in_channels, out_channels, kernel_size, padding=reach, dilation=dilation, bias=bias
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, in_channels) to (B, L, out_channels)."""
        if self.dilation == 1:
            return super().__call__(x)
        batch, length, _ = x.shape
        x = mx.pad(x, [(0, 0), (self.padding, self.padding + -length % self.dilation), (0, 0)])
        # Every dilation-th sample, from each of the possible starts, is a sequence of its own.
        x = mx.unflatten(x, 1, (-1, self.dilation)).swapaxes(1, 2).flatten(0, 1)
        x = mx.conv1d(x, self.weight)
        x = mx.unflatten(x, 0, (batch, self.dilation)).swapaxes(1, 2).flatten(1, 2)[:, :length]
        return x + self.bias if "bias" in self else x


class Upsample1d(nn.ConvTranspose1d):
    """A transposed convolution to ``rate`` times as many samples."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, rate: int):
        super().__init__(in_channels, out_channels, kernel_size)
        self.rate = rate
        self.crop = (kernel_size - rate) // 2

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, in_channels) to (B, rate * L, out_channels).

        Output rate * n + r is the sum over i of x[n - i] and tap rate * i + r of the kernel: an
        ordinary convolution with an output channel for each r.
        """
        out_channels, kernel_size, in_channels = self.weight.shape
        num_taps = -(-kernel_size // self.rate)
        spare = num_taps * self.rate - kernel_size
        taps = mx.pad(self.weight, [(0, 0), (0, spare), (0, 0)])
        taps = taps.reshape(out_channels, num_taps, self.rate, in_channels)[:, ::-1]
        taps = taps.transpose(2, 0, 1, 3).flatten(0, 1)  # (rate * out_channels, num_taps, ...)
        y = mx.conv1d(x, taps, padding=num_taps - 1)
        y = mx.unflatten(y, -1, (self.rate, -1)).flatten(1, 2)
        return y[:, self.crop : self.crop + self.rate * x.shape[1]] + self.bias
