"""From a prompt to latents, and from latents to a clip (spec/model.md part 10).

Each step loads its network, uses it and lets go of it, so that the peak of memory is the largest
network with its working set, not the sum of all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.loras import Loras, apply_loras
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.placeholder import noise_steps
from ltx_infer.pipeline.recipes import Recipe, Stage
from ltx_infer.pipeline.sanity import SanityError, check_latents
from ltx_infer.pipeline.text import Contexts
from ltx_infer.progress import Report
from ltx_infer.sampling.conditions import Grid, condition_audio, condition_video
from ltx_infer.sampling.denoise import sample
from ltx_infer.sampling.state import Noise, State, free_state, freeze, own_tokens
from ltx_models.audio_vae import load_audio_decoder, load_vocoder
from ltx_models.audio_vae.parts import mel_in_parts, sound_in_parts
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.patchify import (
    audio_positions,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)
from ltx_models.transformer.sweep import bounded
from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import load_video_decoder, load_video_statistics
from ltx_models.video_vae.frames import TilingName, decode_frames, named_tiling


class ClipLatents(NamedTuple):
    """What is decoded: the picture (B, C, F, H, W), the sound (B, C, T, M), either may be None."""

    video: mx.array | None
    audio: mx.array | None


class Shared(NamedTuple):
    """What clips have in common that are made together."""

    recipe: Recipe
    inputs: Sequence[StageInputs]  # one a stage
    size: ClipSize
    loras: Loras | None = None
    max_batch_size: int = 1
    placeholder: bool = False  # noise instead of what the transformer makes


class Draw(NamedTuple):
    """What a clip has for itself."""

    contexts: Contexts
    noise: Noise


class Made(NamedTuple):
    """The latents of a clip after each of its stages, or why it has none; and which clip it is."""

    number: int
    stages: list[ClipLatents] | SanityError


Keep = Callable[[int, ClipLatents], None]


def keep_nothing(_number: int, _latents: ClipLatents) -> None:
    """A ``keep`` for runs of which nothing is to stay when they fail."""


def run(
    models: Models,
    recipe: Recipe,
    contexts: Contexts,
    inputs: Sequence[StageInputs],
    size: ClipSize,
    *,
    noise: Noise,
    report: Report,
) -> list[ClipLatents]:
    """The latents of one clip after each of its stages; the last picture is the clip's.

    Raises SanityError when latents leave the range that a picture can have.
    """
    shared = Shared(recipe, inputs, size)
    (made,) = run_each(models, shared, [Draw(contexts, noise)], report=report)
    if isinstance(made.stages, SanityError):
        raise made.stages
    return made.stages


def run_each(
    models: Models,
    shared: Shared,
    draws: Sequence[Draw],
    *,
    report: Report,
    keep: Keep = keep_nothing,
) -> Iterator[Made]:
    """Clips that differ by prompt and noise alone, all through one stage after the other.

    So each network is loaded once. A clip is given when it is finished, or when it fails, which
    does not end the others. ``keep`` is given what can be decoded whatever happens next: each
    finished stage of a clip, and the last good step before it fails.
    """
    found: dict[int, list[ClipLatents]] = {number: [] for number in range(len(draws))}
    for stage, given in zip(shared.recipe.stages, shared.inputs, strict=True):
        if not found:
            return
        starts = {number: stages[-1] for number, stages in found.items() if stages}
        starts = _upscaled(models, starts, report) if starts else {}
        turns = {
            number: Turn(stage, given, starts.get(number), _label(shared, stage, number, draws))
            for number in found
        }
        report(next(iter(turns.values())).label, 0, len(stage.sigmas) - 1)
        model = None if shared.placeholder else models.transformer(shared.recipe.streams)
        if model is not None and shared.loras is not None:
            apply_loras(model, shared.loras, stage)
        for number, turn in turns.items():
            latents, error = sampled(models, model, shared, draws[number], turn, report)
            stages = [*found[number], *([] if latents is None else [latents])]
            if stages:
                keep(number, clip_of(shared.recipe, stages))
            if error is not None:
                del found[number]
                yield Made(number, error)
                continue
            assert latents is not None  # no stage is without steps
            found[number].append(latents)
            if stage is shared.recipe.stages[-1]:
                yield Made(number, found[number])
        del model
        mx.clear_cache()


def clip_of(recipe: Recipe, stages: Sequence[ClipLatents]) -> ClipLatents:
    """What is decoded of the stages so far: the last picture, the sound of the recipe's stage."""
    own = range(len(recipe.stages))[recipe.sound_of]
    return ClipLatents(stages[-1].video, stages[min(own, len(stages) - 1)].audio)


class Turn(NamedTuple):
    """A stage of one clip."""

    stage: Stage
    given: StageInputs
    start: ClipLatents | None  # what a stage before left
    label: str


def sampled(
    models: Models,
    model: Transformer | None,
    shared: Shared,
    draw: Draw,
    turn: Turn,
    report: Report,
) -> tuple[ClipLatents | None, SanityError | None]:
    """The last good latents of a turn, and why there are no later ones if it did not end well.

    Without a model they are noise.
    """
    size, total = shared.size.of(turn.stage.share), len(turn.stage.sigmas) - 1
    states = _states(models, shared.recipe, turn.given, size, turn.start)
    report(turn.label, 0, total)
    if model is None:
        steps = noise_steps(states, turn.stage, noise=draw.noise)
    else:
        steps = sample(
            model,
            states,
            draw.contexts,
            turn.stage,
            noise=draw.noise,
            noise_scale=1.0 if turn.start is None else turn.stage.sigmas[0],
            max_batch_size=shared.max_batch_size,
        )
    good = None
    try:
        with nullcontext() if model is None else bounded(model):
            for number, tokens in enumerate(_checked(steps, states, turn.label), 1):
                report(turn.label, number, total)
                good = _to_latents(models, states, tokens, size)
    except SanityError as error:
        return good, error
    return good, None


def _label(shared: Shared, stage: Stage, number: int, draws: Sequence[Draw]) -> str:
    size = shared.size.of(stage.share)
    picture = "video" in shared.recipe.streams
    label = f"{stage.name}, {size.width}x{size.height}" if picture else f"{stage.name}, sound"
    return label if len(draws) == 1 else f"{label}, clip {number + 1} of {len(draws)}"


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


def _upscaled(
    models: Models, before: Mapping[int, ClipLatents], report: Report
) -> dict[int, ClipLatents]:
    """Pictures with more rows and columns, by the latent upscaler; evaluated, and it is freed."""
    assert models.upscaler is not None  # a second stage has one
    report("upscale", 0, len(before))
    statistics = load_video_statistics(models.checkpoint, dtype=models.dtype)
    upscaler = load_upsampler(models.upscaler, dtype=models.dtype)
    larger: dict[int, ClipLatents] = {}
    for number, latents in before.items():
        assert latents.video is not None
        video = upsample(upscaler, latents.video, statistics=statistics)
        mx.eval(video)
        larger[number] = latents._replace(video=video)
        report("upscale", len(larger), len(before))
    del upscaler
    mx.clear_cache()
    return larger


def decode_video(
    models: Models, latents: mx.array, *, tiling: TilingName = "auto"
) -> Iterator[np.ndarray]:
    """Chunks of frames (F, H, W, 3) in [0, 1], each computed when it is asked for."""
    decoder = load_video_decoder(models.checkpoint, dtype=models.dtype)
    tiles = named_tiling(tiling, *latents.shape[-2:], scale=models.video_config.scale)
    for chunk in decode_frames(decoder, latents, tiles):
        yield np.array(chunk.astype(mx.float32))


def decode_audio(models: Models, latents: mx.array) -> tuple[np.ndarray, int]:
    """The sound (2, samples) in [-1, 1] of latents (1, C, T, M), and its sampling rate in Hz."""
    decoder = load_audio_decoder(models.checkpoint, dtype=models.dtype)
    mel = mel_in_parts(decoder, latents)
    del decoder
    vocoder = load_vocoder(models.checkpoint)
    waveform, rate = np.array(sound_in_parts(vocoder, mel)[0]), vocoder.sampling_rate
    del vocoder
    mx.clear_cache()
    return waveform, rate
