"""From a prompt to latents, and from latents to a clip (spec/model.md part 10).

Each step loads its network, uses it and lets go of it, so that the peak of memory is the largest
network with its working set, not the sum of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.loras import Loras, apply_loras, text_path_adapter
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Recipe
from ltx_infer.pipeline.sanity import SanityError, check_latents
from ltx_infer.progress import Report
from ltx_infer.sampling.conditions import Grid, condition_audio, condition_video
from ltx_infer.sampling.denoise import Context, sample
from ltx_infer.sampling.state import Noise, State, free_state, freeze, own_tokens
from ltx_models.audio_vae import load_audio_decoder, load_vocoder
from ltx_models.text_encoder import PromptContext, encode_prompts, num_tokens_left_out
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.patchify import (
    audio_positions,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)
from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import load_video_decoder, load_video_statistics
from ltx_models.video_vae.tiling import auto_tiling, stream_frames

Contexts = Mapping[StreamName, Context]


class ClipLatents(NamedTuple):
    """What is decoded: the picture (B, C, F, H, W), the sound (B, C, T, M), either may be None."""

    video: mx.array | None
    audio: mx.array | None


class StageError(SanityError):
    """A stage that went wrong, with the last latents that were good; None at its very begin."""

    def __init__(self, message: str, latents: ClipLatents | None):
        super().__init__(message)
        self.latents = latents


def encode_prompt(
    models: Models, recipe: Recipe, prompt: str, negative: str, *, loras: Loras | None = None
) -> Contexts:
    """The contexts of each stream; the negative prompt's only where a stage is guided by it."""
    encoded = encode_prompts(
        models.gemma,
        models.checkpoint,
        _prompts(recipe, prompt, negative),
        dtype=models.dtype,
        audio="audio" in recipe.streams,
        adapt=None if loras is None else text_path_adapter(models, loras, recipe),
    )
    return contexts_of(recipe, *encoded)


def prompt_notes(models: Models, recipe: Recipe, prompt: str, negative: str) -> list[str]:
    """One line for each prompt that is longer than the text encoder reads."""
    prompts = _prompts(recipe, prompt, negative)
    return [
        f"{what} prompt: its last {left_out} tokens are left out; {MAX_LENGTH} are read"
        for what, left_out in zip(
            ("the", "the negative"), num_tokens_left_out(models.gemma, prompts), strict=False
        )
        if left_out
    ]


def _prompts(recipe: Recipe, prompt: str, negative: str) -> list[str]:
    guided = any(g.cfg != 1 for stage in recipe.stages for g in stage.guidance.values())
    return [prompt, negative] if guided else [prompt]


def contexts_of(
    recipe: Recipe, positive: PromptContext, negative: PromptContext | None = None
) -> Contexts:
    """Encoded prompts by stream."""
    return {
        name: Context(
            getattr(positive, name), None if negative is None else getattr(negative, name)
        )
        for name in recipe.streams
    }


def run(
    models: Models,
    recipe: Recipe,
    contexts: Contexts,
    inputs: Sequence[StageInputs],
    size: ClipSize,
    *,
    loras: Loras | None = None,
    noise: Noise,
    report: Report,
    max_batch_size: int = 1,
) -> list[ClipLatents]:
    """The latents of a clip after each of its stages; the last picture is the clip's.

    Raises StageError when latents leave the range that a picture can have.
    """
    found: list[ClipLatents] = []
    for stage, given in zip(recipe.stages, inputs, strict=True):
        start = _upscaled(models, found[-1], report) if found else None
        states = _states(models, recipe, given, size.of(stage.share), start)
        label = f"{stage.name}, {_in_words(recipe, size.of(stage.share))}"
        report(label, 0, len(stage.sigmas) - 1)
        model = models.transformer(recipe.streams)
        if loras is not None:
            apply_loras(model, loras, stage)
        steps = sample(
            model,
            states,
            contexts,
            stage,
            noise=noise,
            noise_scale=1.0 if start is None else stage.sigmas[0],
            max_batch_size=max_batch_size,
        )
        good = found[-1] if found else None
        try:
            for number, tokens in enumerate(_checked(steps, states, label), 1):
                report(label, number, len(stage.sigmas) - 1)
                good = _to_latents(models, states, tokens, size.of(stage.share))
        except SanityError as error:
            raise StageError(str(error), good) from None
        del model, steps
        mx.clear_cache()
        assert good is not None  # no stage is without steps
        found.append(good)
    return found


def _checked(
    steps: Iterator[dict[StreamName, mx.array]], states: Mapping[StreamName, State], label: str
) -> Iterator[dict[StreamName, mx.array]]:
    """Every step's tokens, those looked at that are made.

    Raises SanityError for the first that are not plausible.
    """
    for number, tokens in enumerate(steps, 1):
        for name, value in tokens.items():
            if not states[name].frozen:
                check_latents(value, stage=f"{label}, step {number}, {name}")
        yield tokens


def _in_words(recipe: Recipe, size: ClipSize) -> str:
    return f"{size.width}x{size.height}" if "video" in recipe.streams else "sound"


def _states(
    models: Models, recipe: Recipe, given: StageInputs, size: ClipSize, start: ClipLatents | None
) -> dict[StreamName, State]:
    """Each stream before noise: from what a stage before left, else from what is given."""
    states: dict[StreamName, State] = {}
    if "video" in recipe.streams:
        latents = given.video_start if start is None else start.video
        grid = Grid(models.latent_size(size), size.fps, models.video_config.scale)
        state = _video_state(models, latents, grid)
        states["video"] = condition_video(state, given.video, grid)
    if "audio" in recipe.streams:
        tokens = given.audio_start
        if start is not None and start.audio is not None and "audio" not in given.frozen:
            tokens = patchify_audio(start.audio)
        states["audio"] = condition_audio(_audio_state(models, tokens, size), given.audio)
    for name in given.frozen:
        states[name] = freeze(states[name], from_noise=given.kept)
    return states


def _video_state(models: Models, latents: mx.array | None, grid: Grid) -> State:
    num_tokens = grid.size[0] * grid.size[1] * grid.size[2]
    tokens = (
        mx.zeros((1, num_tokens, models.transformer_config.in_channels))
        if latents is None
        else patchify_video(latents)
    )
    return free_state(tokens, video_positions(grid.size, fps=grid.fps, scale=grid.scale))


def _audio_state(models: Models, tokens: mx.array | None, size: ClipSize) -> State:
    num_latents = models.num_audio_latents(size)
    if tokens is None:
        tokens = mx.zeros((1, num_latents, models.transformer_config.audio_in_channels))
    return free_state(tokens, audio_positions(num_latents, scale=models.audio_config.scale))


def _to_latents(
    models: Models,
    states: Mapping[StreamName, State],
    tokens: Mapping[StreamName, mx.array],
    size: ClipSize,
) -> ClipLatents:
    video = audio = None
    if "video" in tokens:
        own = own_tokens(states["video"], tokens["video"])
        video = unpatchify_video(own, models.latent_size(size))
    if "audio" in tokens:
        own = own_tokens(states["audio"], tokens["audio"])
        audio = unpatchify_audio(own, models.audio_config.ddconfig.z_channels)
    return ClipLatents(video, audio)


def _upscaled(models: Models, before: ClipLatents, report: Report) -> ClipLatents:
    """The picture with more rows and columns, by the latent upscaler; evaluated, and freed."""
    assert models.upscaler is not None  # a second stage has one
    assert before.video is not None
    report("upscale", 0, 1)
    statistics = load_video_statistics(models.checkpoint, dtype=models.dtype)
    upscaler = load_upsampler(models.upscaler, dtype=models.dtype)
    video = upsample(upscaler, before.video, statistics=statistics)
    mx.eval(video)
    del upscaler
    mx.clear_cache()
    report("upscale", 1, 1)
    return before._replace(video=video)


def decode_video(models: Models, latents: mx.array) -> Iterator[np.ndarray]:
    """Chunks of frames (F, H, W, 3) in [0, 1], each computed when it is asked for."""
    decoder = load_video_decoder(models.checkpoint, dtype=models.dtype)
    tiling = auto_tiling(*latents.shape[-2:], scale=models.video_config.scale)
    for chunk in stream_frames(decoder, latents, tiling):
        yield np.array(chunk.astype(mx.float32))


def decode_audio(models: Models, latents: mx.array) -> tuple[np.ndarray, int]:
    """The sound (2, samples) in [-1, 1] of latents (1, C, T, M), and its sampling rate in Hz."""
    decoder = load_audio_decoder(models.checkpoint, dtype=models.dtype)
    mel = decoder(latents)
    mx.eval(mel)
    del decoder
    vocoder = load_vocoder(models.checkpoint)
    waveform, rate = np.array(vocoder(mel.astype(mx.float32))[0]), vocoder.sampling_rate
    del vocoder
    mx.clear_cache()
    return waveform, rate
