"""The files of a run, opened, and the sizes of what they make."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.check import check_networks, check_temporal_upscaler
from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.cached import quantised_at_load
from ltx_models.errors import UserError
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.streamed import stream_blocks
from ltx_models.video_vae import VideoVAEConfig


class ClipSize(NamedTuple):
    """Size of a clip: frames, pixel rows, pixel columns, frames a second."""

    num_frames: int
    height: int
    width: int
    fps: float

    def of(self, share: float) -> "ClipSize":
        """The same clip at a share of its height and width."""
        return self._replace(height=round(self.height * share), width=round(self.width * share))


def _quietly(_line: str) -> None:
    pass


@dataclass(frozen=True)
class Models:
    """An opened checkpoint with its companions, and the type that networks compute in."""

    checkpoint: Checkpoint
    gemma: Path | None  # None where prompts are encoded already
    upscaler: Path | None
    temporal_upscaler: Path | None = field(default=None, kw_only=True)
    dtype: mx.Dtype
    bits: int | None = None  # to which the transformer is quantised at load
    live: Transformer | None = None  # in memory already, as while it is trained: none is loaded
    low_memory: bool = False  # the transformer's blocks are read from disk as they are needed
    say: Callable[[str], None] = _quietly  # is told where the quantised transformer is kept

    def transformer(self, streams: Streams) -> Transformer:
        """The transformer with the weights of some streams, quantised if that was asked for."""
        if self.live is not None:
            return self.live
        checkpoint = self._kept or self.checkpoint
        model = load_transformer(checkpoint, dtype=self.dtype, streams=streams)
        if self.bits is not None and self._kept is None:
            quantize(model, quantization(self.bits), evaluate=not self.low_memory)
        if self.low_memory:
            stream_blocks(model, checkpoint)
        return model

    @cached_property
    def _kept(self) -> Checkpoint | None:
        """The checkpoint with the transformer that an earlier run, or this one now, quantised."""
        if self.bits is None or self.checkpoint.quantization:
            return None
        how = quantization(self.bits)
        return quantised_at_load(self.checkpoint, how, dtype=self.dtype, say=self.say)

    @cached_property
    def transformer_config(self) -> TransformerConfig:
        """Sizes of the transformer."""
        return self.checkpoint.section("transformer", TransformerConfig)

    @cached_property
    def video_config(self) -> VideoVAEConfig:
        """Sizes of the video VAE."""
        return self.checkpoint.section("vae", VideoVAEConfig)

    @cached_property
    def audio_config(self) -> AudioVAEConfig:
        """Sizes of the audio VAE."""
        return self.checkpoint.section("audio_vae", AudioVAEConfig)

    @property
    def stored(self) -> set[str]:
        """How the transformer's weights are quantised, in words; nothing where they are not."""
        return self.checkpoint.stored if self.bits is None else {str(quantization(self.bits))}

    def check(self) -> None:
        """Fit every network of the files, without reading weights.

        Raises UserError for what would otherwise come up after minutes of work.
        """
        stored = next(iter(self.checkpoint.quantization.values()), None)
        if self.bits is not None and stored is not None:
            raise UserError(
                f"-q {self.bits}: {self.checkpoint.path} is quantised as it is stored ({stored}).\n"
                "Leave -q out, or name a model that is not quantised"
            )
        check_networks(self.checkpoint, gemma=self.gemma, upscaler=self.upscaler)
        if self.temporal_upscaler is not None:
            check_temporal_upscaler(self.checkpoint, self.temporal_upscaler)

    def latent_size(self, size: ClipSize) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip; UserError if its pixels do not divide."""
        time, space = self.video_config.scale
        if (size.num_frames - 1) % time or size.height % space or size.width % space:
            raise UserError(
                f"{size.width}x{size.height}, {size.num_frames} frames: this checkpoint makes "
                f"sizes in multiples of {space} and frames in multiples of {time} plus 1"
            )
        return (size.num_frames - 1) // time + 1, size.height // space, size.width // space

    def strange_latents(self, video: mx.array | None, audio: mx.array | None) -> str | None:
        """What is wrong with latents (B, C, F, H, W) and (B, C, T, M) that this model cannot have.

        None where nothing is.
        """
        config = self.transformer_config
        if video is not None and (video.ndim != 5 or video.shape[1] != config.in_channels):
            return f"its picture is {video.shape}, this model's has {config.in_channels} channels"
        if audio is not None:
            channels = self.audio_config.ddconfig.z_channels
            bins = config.audio_in_channels // channels
            if audio.ndim != 4 or (audio.shape[1], audio.shape[3]) != (channels, bins):
                return f"its sound is {audio.shape}, this model's is (1, {channels}, T, {bins})"
        return None

    def num_audio_latents(self, size: ClipSize) -> int:
        """Latent frames of a clip's sound; UserError if the clip is too short for any."""
        found = self.audio_config.scale.num_latents(size.num_frames, size.fps)
        if found < 1:
            raise UserError(
                f"{size.num_frames} frames at {size.fps:g} a second are too short for sound; "
                "make the clip longer, or leave the sound out"
            )
        return found
