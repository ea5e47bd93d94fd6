"""The video encoder: pixels to normalised latents (spec/model.md 4.2 and 4.3)."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ltx_models.errors import UserError
from ltx_models.statistics import PerChannelStatistics
from ltx_models.video_vae.config import Block, VideoVAEConfig
from ltx_models.video_vae.layers import (
    CausalConv3d,
    Convolution,
    Downsample,
    ResnetBlock,
    ResnetStack,
    norm_silu,
    patchify,
)


class VideoEncoder(nn.Module):
    """Built from a checkpoint's section ``vae``, in the order of its ``encoder_blocks``."""

    def __init__(self, config: VideoVAEConfig):
        super().__init__()
        conv = partial(CausalConv3d, causal=True, padding=config.encoder_padding)
        channels = config.latent_channels
        self.config = config
        self.conv_in = conv(config.in_channels * config.patch_size**2, channels)
        self.down_blocks: list[nn.Module] = []
        for block in config.encoder_blocks:
            self.down_blocks.append(_down_block(block, channels, conv))
            channels *= block.multiplier
        self.conv_out = conv(channels, config.latent_channels + 1)  # one shared log-variance
        self.per_channel_statistics = PerChannelStatistics(config.latent_channels)

    def __call__(self, video: mx.array) -> mx.array:
        """Video (B, 3, F, H, W) in [-1, 1] to normalised means (B, C, F', H/32, W/32).

        F' is 1 + (F - 1) // 8; surplus frames are dropped from the end. Raises UserError if H or
        W is no multiple of 32.
        """
        x = patchify(self.crop(video), self.config.patch_size)
        x = self.conv_in(x.astype(self.conv_in.conv.weight.dtype))
        for block in self.down_blocks:
            x = block(x)
        means = self.conv_out(norm_silu(x))[..., :-1]
        return self.per_channel_statistics.normalize(means).moveaxis(-1, 1)

    def crop(self, video: mx.array) -> mx.array:
        """The video without the frames that fill no latent; raises UserError for its sizes."""
        F, H, W = video.shape[2:]
        time, space = self.config.scale
        if H % space or W % space:
            raise UserError(
                f"height and width must be multiples of {space} pixels to be encoded, got {H} x {W}"
            )
        return video[:, :, : (F - 1) // time * time + 1]


def _down_block(block: Block, channels: int, conv: Convolution) -> nn.Module:
    match block.name:
        case "res_x":
            return ResnetStack(channels, num_layers=block.num_layers, conv=conv)
        case "res_x_y":
            return ResnetBlock(channels, channels * block.multiplier, conv=conv)
        case "compress_space" | "compress_time" | "compress_all":
            return conv(channels, channels, stride=block.stride)
        case _:
            out_channels = channels * block.multiplier
            return Downsample(channels, out_channels, stride=block.stride, conv=conv)
