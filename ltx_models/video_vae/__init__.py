"""The video VAE: an encoder, a decoder, and both in tiles (spec/model.md part 4)."""

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import STATISTICS
from ltx_models.statistics import PerChannelStatistics
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.encoder import VideoEncoder


def load_video_encoder(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> VideoEncoder:
    """The encoder with the checkpoint's weights as ``dtype``; nothing else of the file is read.

    Raises ConfigError or WeightsError where section ``vae`` or its tensors do not fit.
    """
    encoder = VideoEncoder(checkpoint.section("vae", VideoVAEConfig))
    return checkpoint.fill_coder(encoder, "vae.encoder.", dtype=dtype)


def load_video_decoder(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> VideoDecoder:
    """The decoder with the checkpoint's weights as ``dtype``; nothing else of the file is read.

    Raises ConfigError or WeightsError where section ``vae`` or its tensors do not fit.
    """
    decoder = VideoDecoder(checkpoint.section("vae", VideoVAEConfig))
    return checkpoint.fill_coder(decoder, "vae.decoder.", dtype=dtype)


def load_video_statistics(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> PerChannelStatistics:
    """The statistics of the latents alone, for a latent upsampler.

    Raises ConfigError or WeightsError where section ``vae`` or its tensors do not fit.
    """
    config = checkpoint.section("vae", VideoVAEConfig)
    prefix = f"vae.{STATISTICS}"
    idle = [prefix + name for name in PerChannelStatistics.idle]
    statistics = PerChannelStatistics(config.latent_channels)
    return checkpoint.fill(statistics, {"": prefix}, idle=idle, dtype=dtype)
