"""Latents to log-mel spectra (spec/model.md 5.2)."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.activations import silu
from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.layers import CausalConv2d, Level, Mid, pixel_norm
from ltx_models.statistics import PerChannelStatistics
from ltx_models.transformer.patchify import patchify_audio, unpatchify_audio


class AudioDecoder(nn.Module):
    """Keys are those of ``audio_vae.decoder.`` and ``audio_vae.per_channel_statistics.``."""

    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        sizes = config.ddconfig
        first, middle, last = sizes.channels
        num_blocks = sizes.num_res_blocks + 1
        self.conv_in = CausalConv2d(sizes.z_channels, last, 3)
        self.mid = Mid(last)
        self.up = [  # numbered from the finest level, which comes last
            Level(middle, first, num_blocks=num_blocks),
            Level(last, middle, num_blocks=num_blocks, upsample=True),
            Level(last, last, num_blocks=num_blocks, upsample=True),
        ]
        self.conv_out = CausalConv2d(first, sizes.out_ch, 3)
        self.per_channel_statistics = PerChannelStatistics(
            sizes.z_channels * config.latent_mel_bins
        )

    def __call__(self, latents: mx.array) -> mx.array:
        """Normalised latents (B, z_channels, T, 16) to log-mel (B, 2, 4 T - 3, 64)."""
        tokens = patchify_audio(latents.astype(self.conv_in.conv.weight.dtype))
        tokens = self.per_channel_statistics.un_normalize(tokens)
        x = unpatchify_audio(tokens, latents.shape[1]).transpose(0, 2, 3, 1)
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(silu(pixel_norm(x))).transpose(0, 3, 1, 2)
