"""The video decoder: normalised latents to pixels (spec/model.md 4.2 and 4.3)."""

from functools import partial
from math import prod

import mlx.core as mx
import mlx.nn as nn

from ltx_models.config import ConfigError
from ltx_models.statistics import PerChannelStatistics
from ltx_models.video_vae.config import Block, VideoVAEConfig
from ltx_models.video_vae.layers import (
    CausalConv3d,
    Convolution,
    ResnetBlock,
    ResnetStack,
    Upsample,
    norm_silu,
    unpatchify,
)


class VideoDecoder(nn.Module):
    """Built from a checkpoint's section ``vae``, from the last of its ``decoder_blocks`` up.

    Raises ConfigError if the configuration asks for conditioning on a timestep.
    """

    def __init__(self, config: VideoVAEConfig):
        super().__init__()
        if config.timestep_conditioning:
            raise ConfigError(
                "config.vae.timestep_conditioning is true (also where it is left out), "
                "but only false is computed here"
            )
        conv = partial(CausalConv3d, causal=config.causal_decoder, padding=config.decoder_padding)
        blocks = config.decoder_blocks[::-1]
        channels = config.decoder_base_channels * prod(block.multiplier for block in blocks)
        self.config = config
        self.per_channel_statistics = PerChannelStatistics(config.latent_channels)
        self.conv_in = conv(config.latent_channels, channels)
        self.up_blocks: list[nn.Module] = []
        for block in blocks:
            self.up_blocks.append(_up_block(block, channels, conv))
            channels //= block.multiplier
        self.conv_out = conv(channels, config.out_channels * config.patch_size**2)

    def __call__(self, latents: mx.array) -> mx.array:
        """Normalised latents (B, C, F', H', W') to video of about [-1, 1].

        The video is (B, 3, 8 (F' - 1) + 1, 32 H', 32 W').
        """
        x = latents.astype(self.conv_in.conv.weight.dtype).moveaxis(1, -1)
        x = self.conv_in(self.per_channel_statistics.un_normalize(x))
        for block in self.up_blocks:
            x = block(x)
        return unpatchify(self.conv_out(norm_silu(x)), self.config.patch_size)


def _up_block(block: Block, channels: int, conv: Convolution) -> nn.Module:
    out_channels = channels // block.multiplier
    match block.name:
        case "res_x":
            return ResnetStack(channels, num_layers=block.num_layers, conv=conv)
        case "res_x_y":
            return ResnetBlock(channels, out_channels, conv=conv)
        case _:
            # The reference reads "residual" of compress_all only.
            residual = block.residual and block.name == "compress_all"
            return Upsample(
                channels, out_channels, stride=block.stride, residual=residual, conv=conv
            )
