"""From a prompt to latents, and from latents to a clip (spec/model.md part 10).

Each step loads its network, uses it and lets go of it, so that the peak of memory is the largest
network with its working set, not the sum of all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.denoise import sample
from ltx_infer.sanity import check_latents
from ltx_infer.sigmas import DISTILLED, REFINE
from ltx_infer.state import Noise, State, free_state
from ltx_models.audio_vae import AudioVAEConfig, load_audio_decoder, load_vocoder
from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_models.text_encoder import PromptContext, encode_prompts
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH
from ltx_models.transformer.patchify import (
    audio_positions,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)
from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import VideoVAEConfig, load_video_decoder, load_video_statistics
from ltx_models.video_vae.tiling import auto_tiling, stream_frames

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many


class ClipSize(NamedTuple):
    """Size of a clip: frames, pixel rows, pixel columns, frames a second."""

    num_frames: int
    height: int
    width: int
    fps: float


class ClipLatents(NamedTuple):
    """What is decoded: the picture (B, C, F, H, W), and the sound (B, C, T, M) if there is one."""

    video: mx.array
    audio: mx.array | None


@dataclass(frozen=True)
class Models:
    """The files of a run, and the type that its networks compute in."""

    checkpoint: Checkpoint
    gemma: Path
    upscaler: Path | None
    dtype: mx.Dtype

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

    def streams(self, *, audio: bool) -> Streams:
        """What the transformer runs: without sound, the picture's tower alone."""
        return BOTH if audio else ("video",)

    def check(self, *, audio: bool) -> None:
        """Fit every network that the run will use, without reading its weights.

        Raises UserError for what would otherwise come up after minutes of work.
        """
        load_transformer(self.checkpoint, dtype=self.dtype, streams=self.streams(audio=audio))
        load_video_decoder(self.checkpoint, dtype=self.dtype)
        if self.upscaler is not None:
            load_upsampler(self.upscaler, dtype=self.dtype)
        if audio:
            load_audio_decoder(self.checkpoint, dtype=self.dtype)
            load_vocoder(self.checkpoint)


def encode_prompt(models: Models, prompt: str, *, audio: bool) -> PromptContext:
    """The transformer's contexts of one prompt."""
    (context,) = encode_prompts(
        models.gemma, models.checkpoint, [prompt], dtype=models.dtype, audio=audio
    )
    return context


def distilled(
    models: Models,
    context: PromptContext,
    size: ClipSize,
    *,
    noise: Noise,
    report: Report,
) -> ClipLatents:
    """Eight fixed levels, no guidance; with an upscaler, at half size first and then three more.

    Sound is sampled where the prompt was encoded for it. Raises SanityError when latents leave
    the range that a picture can have.
    """
    if models.upscaler is None:
        return _stage(models, context, size, DISTILLED, noise=noise, report=report, name="sampling")
    half = size._replace(height=size.height // 2, width=size.width // 2)
    first = _stage(models, context, half, DISTILLED, noise=noise, report=report, name="stage 1")
    start = first._replace(video=_upscale(models, models.upscaler, first.video))
    return _stage(
        models, context, size, REFINE, noise=noise, report=report, name="stage 2", start=start
    )


def _stage(
    models: Models,
    context: PromptContext,
    size: ClipSize,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    report: Report,
    name: str,
    start: ClipLatents | None = None,
) -> ClipLatents:
    """Sample at one size, from nothing or from what an earlier stage left."""
    contexts: dict[StreamName, mx.array] = {"video": context.video}
    states: dict[StreamName, State] = {"video": _video_state(models, size, start)}
    if context.audio is not None:
        contexts["audio"] = context.audio
        states["audio"] = _audio_state(models, size, start)

    label, total = f"{name}, {size.width}x{size.height}", len(sigmas) - 1
    report(label, 0, total)
    streams = models.streams(audio=context.audio is not None)
    model = load_transformer(models.checkpoint, dtype=models.dtype, streams=streams)
    steps = sample(
        model,
        states,
        contexts,
        sigmas,
        noise=noise,
        noise_scale=1.0 if start is None else sigmas[0],
    )
    tokens: dict[StreamName, mx.array] = {}
    for step, tokens in enumerate(steps, 1):
        for stream, value in tokens.items():
            check_latents(value, stage=f"{label}, step {step}, {stream}")
        report(label, step, total)
    del model, steps
    mx.clear_cache()
    return _to_latents(models, size, tokens)


def _to_latents(
    models: Models, size: ClipSize, tokens: Mapping[StreamName, mx.array]
) -> ClipLatents:
    audio = None
    if "audio" in tokens:
        audio = unpatchify_audio(tokens["audio"], models.audio_config.ddconfig.z_channels)
    return ClipLatents(unpatchify_video(tokens["video"], _latent_size(models, size)), audio)


def _latent_size(models: Models, size: ClipSize) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip; UserError if its pixels do not divide."""
    time, space = models.video_config.scale
    if (size.num_frames - 1) % time or size.height % space or size.width % space:
        raise UserError(
            f"{size.width}x{size.height}, {size.num_frames} frames: this checkpoint makes sizes in "
            f"multiples of {space} and frames in multiples of {time} plus 1"
        )
    return (size.num_frames - 1) // time + 1, size.height // space, size.width // space


def _video_state(models: Models, size: ClipSize, start: ClipLatents | None) -> State:
    frames, height, width = _latent_size(models, size)
    if start is None:
        tokens = mx.zeros((1, frames * height * width, models.transformer_config.in_channels))
    else:
        tokens = patchify_video(start.video)
    scale = models.video_config.scale
    return free_state(tokens, video_positions((frames, height, width), fps=size.fps, scale=scale))


def _audio_state(models: Models, size: ClipSize, start: ClipLatents | None) -> State:
    scale = models.audio_config.scale
    num_latents = scale.num_latents(size.num_frames, size.fps)
    if start is None or start.audio is None:
        tokens = mx.zeros((1, num_latents, models.transformer_config.audio_in_channels))
    else:
        tokens = patchify_audio(start.audio)
    return free_state(tokens, audio_positions(num_latents, scale=scale))


def _upscale(models: Models, path: Path, latents: mx.array) -> mx.array:
    """Twice the rows and columns, by the latent upscaler; evaluated, and the network freed."""
    statistics = load_video_statistics(models.checkpoint, dtype=models.dtype)
    result = upsample(load_upsampler(path, dtype=models.dtype), latents, statistics=statistics)
    mx.eval(result)
    mx.clear_cache()
    return result


def decode_video(models: Models, latents: mx.array) -> Iterator[np.ndarray]:
    """Chunks of frames (F, H, W, 3) in [0, 1], each computed when it is asked for."""
    decoder = load_video_decoder(models.checkpoint, dtype=models.dtype)
    tiling = auto_tiling(*latents.shape[-2:], scale=models.video_config.scale)
    for chunk in stream_frames(decoder, latents, tiling):
        yield np.array(chunk.astype(mx.float32))


def decode_audio(models: Models, latents: mx.array) -> tuple[np.ndarray, int]:
    """The sound (2, samples) in [-1, 1], and its sampling rate in Hz."""
    mel = load_audio_decoder(models.checkpoint, dtype=models.dtype)(latents)
    mx.eval(mel)
    vocoder = load_vocoder(models.checkpoint)
    waveform = np.array(vocoder(mel.astype(mx.float32))[0])
    mx.clear_cache()
    return waveform, vocoder.sampling_rate
