"""The activation of LTX-2.3's vocoder: a periodic one, computed at twice the rate (spec 5.4).

At the higher rate the overtones that it makes do not fold back into the audible range. Both changes
of rate are short filters that are the same for all channels. They are computed as products with a
band matrix, block by block over time, which is much faster than convolutions of one channel each.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

NUM_TAPS = 12  # of both filters
BLOCK = 16  # samples, at the lower rate, to one product; the best of 8, 16, 32 and 64 on a CPU


def _band(rows: int, columns: int, *, row_step: int, column_step: int, first: int) -> np.ndarray:
    """Tap ``first + row_step * row + column_step * column``, or NUM_TAPS where there is none."""
    row, column = np.ogrid[:rows, :columns]
    tap = first + row_step * row + column_step * column
    return np.where((tap >= 0) & (tap < NUM_TAPS), tap, NUM_TAPS)


# Output j of the upsampling is 2 * sum over m of tap j + 5 - 2 m and input m, for m from -3 on;
# output n of the downsampling is the sum over i of tap i and input 2 n + i - 5.
HALO = 3
UP = _band(2 * BLOCK, BLOCK + 2 * HALO, row_step=1, column_step=-2, first=5 + 2 * HALO)
DOWN = _band(BLOCK, 2 * BLOCK + NUM_TAPS - 2, row_step=-2, column_step=1, first=0)


def upsample(x: mx.array, taps: mx.array) -> mx.array:
    """(B, L, C) to (B, 2 L, C); beyond its ends x stays as it is there."""
    length = x.shape[1]
    num_blocks = -(-length // BLOCK)
    x = mx.pad(x, [(0, 0), (HALO, num_blocks * BLOCK - length + HALO), (0, 0)], "edge")
    return _filter(2 * taps, UP, _windows(x, size=UP.shape[1], step=BLOCK))[:, : 2 * length]


def downsample(x: mx.array, taps: mx.array) -> mx.array:
    """(B, 2 L, C) to (B, L, C); beyond its ends x stays as it is there."""
    length = x.shape[1] // 2
    num_blocks = -(-length // BLOCK)
    before = NUM_TAPS // 2 - 1
    after = 2 * (num_blocks * BLOCK - length) + before
    x = mx.pad(x, [(0, 0), (before, after), (0, 0)], "edge")
    return _filter(taps, DOWN, _windows(x, size=DOWN.shape[1], step=2 * BLOCK))[:, :length]


def _windows(x: mx.array, *, size: int, step: int) -> mx.array:
    """(B, L, C) to its windows (B, count, size, C), of which neighbours overlap."""
    batch, length, channels = x.shape
    count = (length - size) // step + 1
    strides = (length * channels, step * channels, channels, 1)
    return mx.as_strided(x, (batch, count, size, channels), strides)


def _filter(taps: mx.array, band: np.ndarray, windows: mx.array) -> mx.array:
    matrix = mx.pad(taps.reshape(-1), (0, 1))[mx.array(band)]
    return (matrix @ windows).flatten(1, 2)


@partial(mx.compile, shapeless=True)
def snake(x: mx.array, frequency: mx.array, amplitude: mx.array) -> mx.array:
    """The sum of x and amplitude * sin(frequency * x)^2; the shape of x."""
    return x + amplitude * mx.square(mx.sin(frequency * x))


class SnakeBeta(nn.Module):
    """``snake`` with a frequency and an amplitude for each channel, stored as logarithms."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = mx.zeros(channels)
        self.beta = mx.zeros(channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., C) to the same."""
        return snake(x, mx.exp(self.alpha), 1 / (mx.exp(self.beta) + 1e-9))


class Filter(nn.Module):
    """Taps under their key, ``filter``."""

    def __init__(self):
        super().__init__()
        self.filter = mx.zeros((1, 1, NUM_TAPS))


class LowPass(nn.Module):
    """Taps under their key, ``lowpass.filter``."""

    def __init__(self):
        super().__init__()
        self.lowpass = Filter()


class Activation1d(nn.Module):
    """Twice the rate, SnakeBeta, and back."""

    def __init__(self, channels: int):
        super().__init__()
        self.act = SnakeBeta(channels)
        self.upsample = Filter()
        self.downsample = LowPass()

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) to the same."""
        x = self.act(upsample(x, self.upsample.filter))
        return downsample(x, self.downsample.lowpass.filter)
