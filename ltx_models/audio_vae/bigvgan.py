"""The generator of LTX-2.3's vocoder, a BigVGAN: log-mel spectra to sound (spec/model.md 5.4)."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae.config import BigVGANConfig
from ltx_models.audio_vae.conv1d import SameConv1d
from ltx_models.audio_vae.snake import Activation1d
from ltx_models.audio_vae.vocoder import (
    mean_of,
    residual_blocks,
    stages,
    stereo_channels,
    upsampling_layers,
)


class AMPBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with x added."""

    def __init__(self, channels: int, *, kernel_size: int, dilations: list[int]):
        super().__init__()
        self.convs1 = [
            SameConv1d(channels, channels, kernel_size, dilation=dilation) for dilation in dilations
        ]
        self.convs2 = [SameConv1d(channels, channels, kernel_size) for _ in dilations]
        self.acts1 = [Activation1d(channels) for _ in dilations]
        self.acts2 = [Activation1d(channels) for _ in dilations]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) to the same."""
        for act1, first, act2, second in zip(
            self.acts1, self.convs1, self.acts2, self.convs2, strict=True
        ):
            x = x + second(act2(first(act1(x))))
        return x


class BigVGAN(nn.Module):
    """Keys are those of ``vocoder.vocoder.`` and ``vocoder.bwe_generator.``."""

    def __init__(self, config: BigVGANConfig, *, num_mels: int):
        super().__init__()
        channels = config.channels
        self.conv_pre = SameConv1d(2 * num_mels, channels[0], 7)
        self.ups = upsampling_layers(config)
        self.resblocks = residual_blocks(config, AMPBlock)
        self.act_post = Activation1d(channels[-1])
        self.conv_post = SameConv1d(channels[-1], 2, 7, bias=config.use_bias_at_final)

    def __call__(self, mel: mx.array) -> mx.array:
        """Log-mel (B, 2, T, num_mels) to sound (B, 2, N), not bounded; N is T by all the rates."""
        x = self.conv_pre(stereo_channels(mel))
        for up, blocks in stages(self.ups, self.resblocks):
            x = mean_of(blocks, up(x))
        return self.conv_post(self.act_post(x)).swapaxes(1, 2)
