"""What a transformer is given while it makes clips: the inputs of a short calibration run.

A few prompts of our own are denoised from noise through a few levels, without guidance, in one
batch; the states at those levels are the samples. So later levels have in them what this model
makes of these prompts, and no data is needed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint
from ltx_models.text_encoder.encode import PromptContext
from ltx_models.transformer.model import BOTH, Modality, Transformer
from ltx_models.transformer.patchify import audio_positions, video_positions
from ltx_models.transformer.timestep import per_sample
from ltx_models.video_vae import VideoVAEConfig

PROMPTS = (
    "A woman in a red coat walks along a rainy street at night and says: we are late again. "
    "Handheld camera, traffic and footsteps.",
    "Slow aerial shot of a green mountain valley at sunrise, mist over a river, birds and wind.",
    "Close-up of a cook's hands chopping vegetables on a wooden board, a knife's quick rhythm, "
    "a radio playing jazz.",
)
# Of those that distilled models know, which other models go through as well.
LEVELS = (1.0, 0.909375, 0.725, 0.421875)
SIZE = (9, 6, 6)  # latent frames, rows and columns
FPS = 24.0


class Grid(NamedTuple):
    """Where each stream's tokens lie: bounds (1, axes, T, 2), as ``Transformer.prepare`` has it."""

    video: np.ndarray
    audio: np.ndarray


def grid(checkpoint: Checkpoint, size: tuple[int, int, int] = SIZE) -> Grid:
    """The tokens of a clip of ``size`` latent frames, rows and columns, with its sound."""
    scale = checkpoint.section("vae", VideoVAEConfig).scale
    audio_scale = checkpoint.section("audio_vae", AudioVAEConfig).scale
    num_frames = (size[0] - 1) * scale.time + 1
    return Grid(
        video_positions(size, fps=FPS, scale=scale),
        audio_positions(audio_scale.num_latents(num_frames, FPS), scale=audio_scale),
    )


def samples(
    model: Transformer,
    contexts: Sequence[PromptContext],
    positions: Grid,
    *,
    levels: Sequence[float] = LEVELS,
) -> list[Modality]:
    """Picture and sound of every prompt at every level, in one batch (levels * prompts, T, C).

    Evaluated; the same at every call. ``levels`` fall from 1, by Euler's steps.
    """
    states = [_noise(model, positions, len(contexts))]
    for level, after in pairwise(levels):
        velocities = model(*_given(model, contexts, positions, states[-1], [level]))
        changes = [(after - level) * v.astype(mx.float32) for v in velocities if v is not None]
        states.append([x + change for x, change in zip(states[-1], changes, strict=True)])
        mx.eval(states[-1])
    together = [mx.concatenate([*each]) for each in zip(*states, strict=True)]
    return _given(model, contexts, positions, together, levels)


def _noise(model: Transformer, positions: Grid, count: int) -> list[mx.array]:
    """Standard normal tokens (count, T, C) of picture and sound."""
    channels = model.config.in_channels, model.config.audio_in_channels
    keys = mx.random.split(mx.random.key(0), 2)
    return [
        mx.random.normal((count, bounds.shape[2], width), key=key)
        for bounds, width, key in zip(positions, channels, keys, strict=True)
    ]


def _given(
    model: Transformer,
    contexts: Sequence[PromptContext],
    positions: Grid,
    latents: Sequence[mx.array],
    levels: Sequence[float],
) -> list[Modality]:
    """Tokens of both streams as the model takes them: all prompts at one level after the other."""
    sigma = mx.array(np.repeat(np.array(levels, np.float32), len(contexts)))
    found = []
    for name, bounds, x, told in zip(
        BOTH, positions, latents, zip(*contexts, strict=True), strict=True
    ):
        context = mx.concatenate([*told] * len(levels))
        prepared = model.prepare(name, positions=bounds, context=context)
        found.append(Modality(x, sigma, per_sample(sigma), prepared))
    return found
