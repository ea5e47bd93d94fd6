"""Log-mel spectra to latents (spec/model.md 5.2)."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.activations import silu
from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.layers import CausalConv2d, Level, Mid, pixel_norm
from ltx_models.audio_vae.mel import waveform_to_mel
from ltx_models.statistics import PerChannelStatistics
from ltx_models.transformer.patchify import patchify_audio, unpatchify_audio


class AudioEncoder(nn.Module):
    """Keys are those of ``audio_vae.encoder.`` and ``audio_vae.per_channel_statistics.``."""

    def __init__(self, config: AudioVAEConfig):
        super().__init__()
        sizes = config.ddconfig
        first, middle, last = sizes.channels
        self.config = config
        self.conv_in = CausalConv2d(sizes.in_channels, sizes.ch, 3)
        self.down = [
            Level(sizes.ch, first, num_blocks=sizes.num_res_blocks, downsample=True),
            Level(first, middle, num_blocks=sizes.num_res_blocks, downsample=True),
            Level(middle, last, num_blocks=sizes.num_res_blocks),
        ]
        self.mid = Mid(last)
        self.conv_out = CausalConv2d(last, 2 * sizes.z_channels, 3)  # means and log-variances
        self.per_channel_statistics = PerChannelStatistics(
            sizes.z_channels * config.latent_mel_bins
        )

    def __call__(self, mel: mx.array) -> mx.array:
        """Log-mel (B, 2, T, 64) to the normalised means (B, z_channels, ceil(T / 4), 16)."""
        x = mel.transpose(0, 2, 3, 1).astype(self.conv_in.conv.weight.dtype)
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        x = self.conv_out(silu(pixel_norm(self.mid(x))))
        z_channels = self.config.ddconfig.z_channels
        means = patchify_audio(x[..., :z_channels].transpose(0, 3, 1, 2))
        return unpatchify_audio(self.per_channel_statistics.normalize(means), z_channels)


def encode_waveform(encoder: AudioEncoder, waveform: mx.array, *, sampling_rate: int) -> mx.array:
    """A mono or stereo sound (B, 1 or 2, N), at any rate in Hz, to normalised latents.

    Raises UserError for other numbers of channels and for less than half an STFT window.
    """
    return encoder(waveform_to_mel(waveform, sampling_rate=sampling_rate, config=encoder.config))
