"""Does everything fit, told before anything is computed: of every file only the header is read."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ltx_models.audio_vae import load_audio_decoder, load_audio_encoder, load_vocoder
from ltx_models.checkpoint import Checkpoint
from ltx_models.config import ConfigError
from ltx_models.text_encoder.connector import load_connectors
from ltx_models.text_encoder.features import load_feature_extractor, load_own_feature_extractor
from ltx_models.text_encoder.gemma import check_gemma_files
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.text_encoder.tokenizer import check_tokenizer_file
from ltx_models.transformer import load_transformer
from ltx_models.upsampler import load_upsampler
from ltx_models.video_vae import VideoVAEConfig, load_video_decoder, load_video_encoder

DTYPE = mx.bfloat16  # any would do: no weight is read
SCALES = (1.5, 2.0)  # of an upscaler between two stages


def check_networks(checkpoint: Checkpoint, *, gemma: Path | None, upscaler: Path | None) -> None:
    """Fit every network of a run's files, whether the run uses it or not.

    A removed, renamed, misshapen or stray tensor of the checkpoint or the upscaler, wherever it
    is, raises WeightsError; so does a torn or missing file. A configuration that is not computed,
    or of another generation than the rest, raises ConfigError. Gemma's own tensors are compared
    with their index alone: mlx-lm fits them when it loads them, which is a run's first work.
    """
    check_own_networks(checkpoint)
    if gemma is not None:
        check_text_encoder(checkpoint, gemma)
    if upscaler is not None:
        check_upscaler(checkpoint, upscaler)


def check_own_networks(checkpoint: Checkpoint) -> None:
    """``check_networks`` without companions; the text projection may be for any Gemma."""
    checkpoint = replace(checkpoint, header_only=True)
    load_transformer(checkpoint, dtype=DTYPE)
    load_connectors(checkpoint, dtype=DTYPE)
    load_video_encoder(checkpoint, dtype=DTYPE)
    load_video_decoder(checkpoint, dtype=DTYPE)
    load_audio_encoder(checkpoint, dtype=DTYPE)
    load_audio_decoder(checkpoint, dtype=DTYPE)
    load_vocoder(checkpoint)
    load_own_feature_extractor(checkpoint, dtype=DTYPE)


def check_text_encoder(checkpoint: Checkpoint, gemma: Path) -> None:
    """Fit a Gemma folder to the checkpoint's text projection; raises UserError."""
    checkpoint = replace(checkpoint, header_only=True)
    load_feature_extractor(checkpoint, read_gemma_config(gemma), dtype=DTYPE)
    check_tokenizer_file(gemma)
    check_gemma_files(gemma)


def check_upscaler(checkpoint: Checkpoint, path: Path) -> None:
    """Fit a latent upscaler to its own file, and to what a second stage takes; raises UserError."""
    config = load_upsampler(path, dtype=DTYPE).config
    if config.temporal_upsample:
        raise ConfigError(f"{path}: it adds frames; a spatial upscaler is wanted here")
    if config.spatial_scale not in SCALES:
        raise ConfigError(
            f"{path}: it scales by {config.spatial_scale}; "
            f"{' or '.join(map(str, SCALES))} is wanted here"
        )
    _check_channels(checkpoint, path, config.in_channels)


def check_temporal_upscaler(checkpoint: Checkpoint, path: Path) -> None:
    """Fit an upscaler of twice the frames to its own file and to the checkpoint; UserError."""
    config = load_upsampler(path, dtype=DTYPE).config
    if not config.temporal_upsample:
        raise ConfigError(f"{path}: it adds rows and columns; a temporal upscaler is wanted here")
    _check_channels(checkpoint, path, config.in_channels)


def _check_channels(checkpoint: Checkpoint, path: Path, in_channels: int) -> None:
    channels = checkpoint.section("vae", VideoVAEConfig).latent_channels
    if in_channels != channels:
        raise ConfigError(
            f"{path}: it takes latents of {in_channels} channels, but those of "
            f"{checkpoint.path} have {channels}"
        )
