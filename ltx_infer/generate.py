"""A clip from a request: find the files, check them, make latents, decode, write."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.config import GenerateConfig
from ltx_infer.hub import ModelFiles, find_model
from ltx_infer.media import check_output, write_clip
from ltx_infer.pipeline import (
    ClipSize,
    Models,
    Report,
    decode_audio,
    decode_video,
    distilled,
    encode_prompt,
)
from ltx_infer.sanity import check_sound, checked_frames
from ltx_infer.state import Noise, seeded_noise
from ltx_models.checkpoint import open_checkpoint
from ltx_models.device import compute_dtype


class Written(NamedTuple):
    """What was made: the number of frames, and the sound's rate in Hz or None without sound."""

    num_frames: int
    sampling_rate: int | None


def generate(config: GenerateConfig, *, report: Report, noise: Noise | None = None) -> Written:
    """Make the clip that ``config`` asks for and write it to its ``output_path``.

    ``noise`` replaces the noise of the seed, to replay a recorded run. Raises UserError for what
    cannot be had or made, before anything long is begun where that can be known.
    """
    check_output(config.output_path)
    models = open_models(config)
    report("text", 0, 1)
    context = encode_prompt(models, config.prompt, audio=config.audio)
    report("text", 1, 1)
    size = ClipSize(config.num_frames, config.height, config.width, config.fps)
    latents = distilled(
        models, context, size, noise=noise or seeded_noise(config.seed), report=report
    )
    del context
    waveform, rate = None, None
    if latents.audio is not None:
        report("sound", 0, 1)
        waveform, rate = decode_audio(models, latents.audio)
        check_sound(waveform, stage="sound")
        report("sound", 1, 1)
    frames = checked_frames(
        _reported(decode_video(models, latents.video), config.num_frames, report), stage="decode"
    )
    num_frames = write_clip(
        config.output_path, frames, fps=config.fps, audio=waveform, sampling_rate=rate
    )
    return Written(num_frames, rate)


def open_models(config: GenerateConfig) -> Models:
    """The files of a request, opened and fitted to their networks; no weights are read."""
    files = find_model(config.model, variant="distilled")
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.allow_unknown_config)
    models = Models(
        checkpoint=checkpoint,
        gemma=_text_encoder(config, files),
        upscaler=None if config.one_stage else files.spatial_upscaler(),
        dtype=compute_dtype(),
    )
    models.check(audio=config.audio)
    mx.clear_cache()
    return models


def _text_encoder(config: GenerateConfig, files: ModelFiles) -> Path:
    """The Gemma folder that was named, or the one beside the checkpoint."""
    if config.text_encoder_repo is None:
        return files.text_encoder()
    return Path(config.text_encoder_repo).expanduser()


def _reported(chunks: Iterator[np.ndarray], total: int, report: Report) -> Iterator[np.ndarray]:
    """Pass on chunks of frames and report each."""
    report("decode", 0, total)
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        report("decode", done, total)
