"""LTX-2's vocoder, a HiFi-GAN: log-mel spectra to sound (spec/model.md 5.3)."""

from collections.abc import Callable, Iterator
from functools import reduce

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae.config import VOCODER_MEL_BINS, GeneratorConfig, HiFiGANConfig
from ltx_models.audio_vae.conv1d import SameConv1d, Upsample1d

SLOPE = 0.1  # of the leaky ReLUs
LAST_SLOPE = 0.01  # of the one before the last convolution


def stereo_channels(mel: mx.array) -> mx.array:
    """Log-mel (B, 2, T, M) to (B, T, 2 * M), left before right, in float32.

    Vocoders compute in float32 only: bfloat16 is audible in their spectra.
    """
    return mel.astype(mx.float32).swapaxes(1, 2).flatten(2)


def upsampling_layers(config: GeneratorConfig) -> list[Upsample1d]:
    """The layer that begins each stage; it halves the channels."""
    channels = config.channels
    sizes = zip(config.upsample_kernel_sizes, config.upsample_rates, strict=True)
    return [
        Upsample1d(channels[i], channels[i + 1], kernel_size, rate=rate)
        for i, (kernel_size, rate) in enumerate(sizes)
    ]


def residual_blocks(config: GeneratorConfig, block: Callable[..., nn.Module]) -> list[nn.Module]:
    """The blocks of all stages in one list, as the checkpoint counts them."""
    sizes = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
    return [
        block(channels, kernel_size=kernel_size, dilations=dilations)
        for channels in config.channels[1:]
        for kernel_size, dilations in sizes
    ]


def stages(
    ups: list[Upsample1d], resblocks: list[nn.Module]
) -> Iterator[tuple[Upsample1d, list[nn.Module]]]:
    """Each stage's upsampling layer and residual blocks."""
    size = len(resblocks) // len(ups)
    for i, up in enumerate(ups):
        yield up, resblocks[i * size : (i + 1) * size]


def mean_of(blocks: list[nn.Module], x: mx.array) -> mx.array:
    """The mean of what the blocks make of x."""
    return reduce(mx.add, (block(x) for block in blocks)) / len(blocks)


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with x added."""

    def __init__(self, channels: int, *, kernel_size: int, dilations: list[int]):
        super().__init__()
        self.convs1 = [
            SameConv1d(channels, channels, kernel_size, dilation=dilation) for dilation in dilations
        ]
        self.convs2 = [SameConv1d(channels, channels, kernel_size) for _ in dilations]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) to the same."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            update = first(nn.leaky_relu(x, SLOPE))
            x = x + second(nn.leaky_relu(update, SLOPE))
        return x


class HiFiGAN(nn.Module):
    """Keys are those of ``vocoder.`` in an LTX-2 checkpoint."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        channels = config.channels
        self.sampling_rate = config.output_sampling_rate  # of the sound, in Hz
        self.conv_pre = SameConv1d(2 * VOCODER_MEL_BINS, channels[0], 7)
        self.ups = upsampling_layers(config)
        self.resblocks = residual_blocks(config, ResBlock)
        self.conv_post = SameConv1d(channels[-1], 2, 7)

    def __call__(self, mel: mx.array) -> mx.array:
        """Log-mel (B, 2, T, 64) to sound (B, 2, N) in [-1, 1], float32; N is 240 T."""
        x = self.conv_pre(stereo_channels(mel))
        for up, blocks in stages(self.ups, self.resblocks):
            x = mean_of(blocks, up(nn.leaky_relu(x, SLOPE)))
        x = self.conv_post(nn.leaky_relu(x, LAST_SLOPE))
        return mx.tanh(x).swapaxes(1, 2)
