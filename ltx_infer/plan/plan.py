"""What a run takes of the memory at each of its parts, from files' headers and sizes alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.hub.place import shown_size
from ltx_infer.pipeline.inputs import Media
from ltx_infer.pipeline.loras import Loras
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Recipe, Stage
from ltx_infer.pipeline.text import is_guided
from ltx_infer.plan.networks import fusing_bytes, planned_transformer
from ltx_infer.plan.parts import (
    On,
    Part,
    decode_part,
    encode_part,
    given_sound_part,
    sound_parts,
    upscale_part,
)
from ltx_infer.plan.peak import CPU, GPU
from ltx_infer.plan.sampling import Streams, Tokens, sampling_part
from ltx_infer.plan.text import connecting, text_parts
from ltx_infer.sampling.guidance import Passes, in_batches, needed_passes
from ltx_models.transformer.block import StreamName
from ltx_models.upsampler import load_upsampler
from ltx_models.video_vae.frames import TilingName

TIME_SCALE = 8


class Choices(NamedTuple):
    """What of a run may be changed so that it takes less."""

    bits: int | None = None
    low_memory: bool = False
    tiling: TilingName = "auto"
    max_batch_size: int = 1


class Run(NamedTuple):
    """What is to be made, whatever the choices are."""

    models: Models
    recipe: Recipe
    size: ClipSize
    loras: Loras = Loras()
    media: Media = Media()
    prompts: Sequence[str] = ()  # that Gemma reads, the negative one too; none: it is not used
    num_connected: int = 0  # texts that come as features, for the connectors alone
    num_clips: int = 1
    decodes: bool = True  # whether a picture and sound are made of the latents
    samples: bool = True  # whether the transformer makes them


class Plan(NamedTuple):
    """The parts of a run, in their order; each is let go of before the next begins."""

    parts: tuple[Part, ...]

    @property
    def largest(self) -> Part:
        """Where the run takes the most."""
        return max(self.parts, key=lambda part: part.total)

    @property
    def total(self) -> int:
        """The most at any time, in bytes."""
        return self.largest.total

    def __str__(self) -> str:
        """The peak, and what it is made of."""
        part = self.largest
        return f"{shown_size(part.total)} ({part.name}: {_made_of(part)})"


def here(dtype: mx.Dtype) -> On:
    """What this machine's device computes in."""
    return On(dtype, CPU if mx.default_device() == mx.cpu else GPU)


def make_plan(run: Run, choices: Choices, on: On) -> Plan:
    """The plan of a run with these choices; no weight is read."""
    models, recipe = run.models, run.recipe
    video, audio = (name in recipe.streams for name in ("video", "audio"))
    parts: list[Part] = []
    if run.prompts and models.gemma is not None:
        given = (models.gemma, models.checkpoint, run.prompts)
        parts += text_parts(*given, audio=audio, on=on)
    if run.num_connected:
        parts.append(connecting(models.checkpoint, run.num_connected, audio=audio, on=on))
    parts += _inputs(run, on)
    for number, stage in enumerate(recipe.stages):
        if number and models.upscaler is not None and video:
            before = recipe.stages[number - 1]
            upscaler = load_upsampler(models.upscaler, dtype=on.dtype)
            size = models.latent_size(run.size.of(before.share))
            parts.append(upscale_part(upscaler, size, on))
        if run.samples:
            parts.append(_sampling(_Stage.of(run, stage, choices, on)))
    last = run.size.of(recipe.stages[-1].share)
    latents = models.latent_size(last) if video else (0, 0, 0)
    if video and models.temporal_upscaler is not None:
        upscaler = load_upsampler(models.temporal_upscaler, dtype=on.dtype)
        parts.append(upscale_part(upscaler, latents, on)._replace(name="temporal upscale"))
        latents = (2 * latents[0] - 1, latents[1], latents[2])
    if run.decodes and audio and "audio" not in run.media.frozen:
        parts += sound_parts(models.checkpoint, models.num_audio_latents(run.size), on)
    if run.decodes and video:
        parts.append(decode_part(models.checkpoint, latents, choices.tiling, on))
    return Plan(tuple(parts))


def _inputs(run: Run, on: On) -> list[Part]:
    media, size = run.media, run.size
    full = [size.of(stage.share) for stage in run.recipe.stages]
    shown = [
        (frames, each.height // part, each.width // part)
        for each in full
        for frames, part in _shown(media, each)
    ]
    parts = []
    if shown and "video" in run.recipe.streams:
        parts.append(encode_part(run.models.checkpoint, shown, on))
    sounds = [each for each in (media.sound, media.reference_sound) if each is not None]
    if sounds and "audio" in run.recipe.streams:
        seconds = max(each.waveform.shape[-1] / each.rate for each in sounds)
        parts.append(given_sound_part(run.models.checkpoint, seconds, on))
    return parts


def _shown(media: Media, size: ClipSize) -> list[tuple[int, int]]:
    """Frames of each picture and clip, and by what its sides are divided."""
    clips = [clip for clip in (media.prefix, media.suffix, media.source) if clip is not None]
    return [
        *[(1, 1)] * len(media.pictures),
        *[(len(clip), 1) for clip in clips],
        *[(min(len(r.frames), size.num_frames), r.space_factor) for r in media.references],
    ]


def tokens_of(run: Run, stage: Stage) -> Streams:
    """The tokens of each stream in a stage, those of conditions too."""
    models, media = run.models, run.media
    size = run.size.of(stage.share)
    found: dict[StreamName, Tokens] = {}
    if "video" in run.recipe.streams:
        frames, rows, columns = models.latent_size(size)
        more = sum(picture.as_guide for picture in media.pictures) * rows * columns
        if media.suffix is not None:
            more += _latent_frames(len(media.suffix)) * rows * columns
        references = media.references if stage.references else ()
        for each in references:
            part = each.space_factor
            shown = ceil(min(len(each.frames), size.num_frames) / each.time_factor)
            more += _latent_frames(shown) * (rows // part) * (columns // part)
        clips = (media.prefix, media.suffix, media.source)
        given = media.pictures or references or any(clip is not None for clip in clips)
        masked = any(each.attention is not None for each in references)
        number = frames * rows * columns + more
        found["video"] = Tokens(number, several_levels=bool(given), masked=masked)
    if "audio" in run.recipe.streams:
        number = models.num_audio_latents(size)
        if (sound := media.reference_sound) is not None:
            seconds = sound.waveform.shape[-1] / sound.rate
            number += round(seconds * models.num_audio_latents(size) / _seconds(size))
        given = media.reference_sound or (media.sound and "audio" not in media.frozen)
        found["audio"] = Tokens(number, several_levels=bool(given))
    return found


def _latent_frames(frames: int) -> int:
    return (frames - 1) // TIME_SCALE + 1


def _seconds(size: ClipSize) -> float:
    return size.num_frames / size.fps


def calls_of(stage: Stage, max_batch_size: int) -> tuple[Passes, ...]:
    """The passes of each call of the transformer in a step."""
    return in_batches(needed_passes(stage.guidance), max_batch_size)


@dataclass(frozen=True)
class _Stage:
    """What decides the plan of a stage, and what it is made with."""

    name: str
    checkpoint: str
    tokens: tuple[tuple[StreamName, Tokens], ...]
    passes: Passes
    mode: str  # of adapters
    files: tuple[str, ...]
    num_contexts: int
    choices: Choices
    on: On
    run: Run = field(compare=False)
    stage: Stage = field(compare=False)

    @classmethod
    def of(cls, run: Run, stage: Stage, choices: Choices, on: On) -> "_Stage":
        """Of a stage of a run."""
        file = run.models.checkpoint.path
        changed = file.stat().st_mtime_ns if file.exists() else 0
        files = [str(each.path) for each, _ in run.loras.of(stage)]
        return cls(
            name=stage.name,
            checkpoint=f"{file} {changed}",
            tokens=tuple(tokens_of(run, stage).items()),
            passes=max(calls_of(stage, choices.max_batch_size), key=len),
            mode=run.loras.mode,
            files=tuple(files),
            num_contexts=run.num_clips * (1 + is_guided(run.recipe)),
            choices=choices._replace(tiling="auto"),
            on=on,
            run=run,
            stage=stage,
        )


@cache
def _sampling(asked: _Stage) -> Part:
    run, tokens = asked.run, dict(asked.tokens)
    attached = run.loras.of(asked.stage) if run.loras.mode == "attach" else []
    files = [file for file, _ in attached]
    loaded = planned_transformer(
        run.models,
        run.recipe.streams,
        files,
        bits=asked.choices.bits,
        allow_unmatched=run.loras.allow_unmatched,
    )
    part = sampling_part(
        asked.name,
        loaded,
        tokens,
        asked.passes,
        asked.on,
        num_contexts=asked.num_contexts,
        low_memory=asked.choices.low_memory,
    )
    if run.loras.mode == "fuse" and run.loras.of(asked.stage):
        part = part._replace(work=max(part.work, fusing_bytes(loaded.model)))
    return part


def parts_table(plan: Plan) -> list[str]:
    """A line for each part of a plan."""
    width = max(len(part.name) for part in plan.parts)
    return [
        f"{part.name:<{width}}  {shown_size(part.total):>8}  ({_made_of(part)})"
        for part in plan.parts
    ]


def _made_of(part: Part) -> str:
    return f"weights {shown_size(part.weights)}, at work {shown_size(part.work)}"


def tokens_lines(run: Run, choices: Choices) -> list[str]:
    """Tokens, steps and passes of each stage, in words."""
    lines = []
    for stage in run.recipe.stages:
        tokens: Mapping[StreamName, Tokens] = tokens_of(run, stage)
        counted = ", ".join(f"{each.number} {name} tokens" for name, each in tokens.items())
        calls = calls_of(stage, choices.max_batch_size)
        passes = sum(len(call) for call in calls)
        at_once = f", {len(calls[0])} at once" if len(calls[0]) > 1 else ""
        several = f"{passes} passes{at_once}" if passes > 1 else "1 pass"
        lines.append(f"{stage.name}: {counted}, {len(stage.sigmas) - 1} steps, {several} a step")
    return lines
