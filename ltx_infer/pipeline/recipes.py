"""Pipelines as data: which stages a clip goes through, and what each does (spec part 10)."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ltx_infer.combinations import GUIDANCE, flags
from ltx_infer.config import GenerateConfig
from ltx_infer.sampling.guidance import (
    HQ,
    Apg,
    Guidance,
    GuidedStreams,
    check_blocks,
    default_guidance,
)
from ltx_infer.sampling.sigmas import DISTILLED, REFINE, shifted
from ltx_models.errors import UserError
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.model import BOTH

DEFAULT_STEPS, HQ_STEPS = 30, 15
Variant = Literal["dev", "distilled"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run through noise levels at one size."""

    name: str
    share: float  # of the clip's height and width
    sigmas: tuple[float, ...]
    sampler: Literal["euler", "res_2s"] = "euler"
    guidance: GuidedStreams = field(default_factory=dict)
    user_loras: bool = True  # whether the LoRAs that were asked for are on
    distilled_lora: float = 0.0  # strength of the refinement LoRA
    references: bool = False  # whether reference clips and sounds take part


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A pipeline: its stages, the streams of its transformer, and whose sound is the clip's."""

    stages: tuple[Stage, ...]
    streams: Streams
    sound_of: int = -1  # the stage whose sound is kept
    notes: tuple[str, ...] = ()  # what was decided, one line each

    @property
    def distilled_strengths(self) -> tuple[float, ...]:
        """The refinement LoRA's strength in each stage."""
        return tuple(stage.distilled_lora for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a recipe needs to know of the model."""

    version: tuple[int, ...]
    variant: Variant | None  # None: not known, as the stand-in, which counts as both
    num_layers: int
    first_tokens: int  # video tokens of the first stage, which HQ's levels depend on
    upscale: float = 2.0  # of the spatial upscaler
    source_sound: bool = False  # whether the clip that retake or extend changes has sound


def make_recipe(config: GenerateConfig, facts: Facts) -> Recipe:
    """The pipeline that was asked for. Raises UserError for what it cannot do."""
    streams = _streams(config, facts)
    match config.pipeline:
        case "distilled" | "ic-lora":
            recipe = _distilled(config, facts, streams)
        case "dev" | "t2a":
            recipe = Recipe(stages=(_guided(config, facts, name="sampling"),), streams=streams)
        case "dev-two-stage" | "keyframe":
            recipe = _two_stages(config, facts, streams)
        case "dev-two-stage-hq":
            recipe = _hq(config, facts, streams)
        case "retake" | "extend":
            recipe = _remade(config, facts, streams)
    for stage in recipe.stages:
        check_blocks(stage.guidance, num_layers=facts.num_layers)
    return _cut(config, recipe)


def _streams(config: GenerateConfig, facts: Facts) -> Streams:
    if config.pipeline == "t2a":
        return ("audio",)
    given = config.audio_file is not None or config.reference_audio is not None
    return BOTH if config.audio or given or facts.source_sound else ("video",)


def _distilled(config: GenerateConfig, facts: Facts, streams: Streams) -> Recipe:
    sigmas, notes = _distilled_sigmas(config)
    strength = 0.0
    if facts.variant == "dev":
        strength = _refining_strength(config)
        notes.append(f"dev weights: the distilled LoRA is attached at strength {strength}")
    ic_lora = config.pipeline == "ic-lora"
    if ic_lora and not config.lora:
        notes.append("ic-lora without a LoRA: nothing has learnt to follow the reference")
    first = Stage(
        name="stage 1", share=0.5, sigmas=sigmas, distilled_lora=strength, references=True
    )
    second = Stage(
        name="stage 2",
        share=0.5 * facts.upscale,
        sigmas=REFINE,
        distilled_lora=strength,
        user_loras=not ic_lora,
    )
    return Recipe(stages=(first, second), streams=streams, notes=tuple(notes))


def _distilled_sigmas(config: GenerateConfig) -> tuple[tuple[float, ...], list[str]]:
    """The levels of distilled weights, or as many of them as --steps asks for; and a note."""
    last = len(DISTILLED) - 1
    if config.steps is None or config.steps == last:
        return DISTILLED, []
    if config.steps > last:
        raise UserError(f"--steps {config.steps}: distilled weights have {last} at most")
    chosen = np.linspace(0, last - 1, config.steps).round().astype(int)
    sigmas = (*(DISTILLED[i] for i in chosen), 0.0)
    return sigmas, [f"{config.steps} of the {last} levels: {', '.join(map(str, sigmas))}"]


def _two_stages(config: GenerateConfig, facts: Facts, streams: Streams) -> Recipe:
    keyframe = config.pipeline == "keyframe"
    first = replace(_guided(config, facts, name="stage 1"), share=0.5)
    return Recipe(
        stages=(first, _refinement(facts, strength=_refining_strength(config))),
        streams=streams,
        sound_of=1 if keyframe else 0,
    )


def _hq(config: GenerateConfig, facts: Facts, streams: Streams) -> Recipe:
    steps = config.steps or HQ_STEPS
    guidance = dict(_guidance(config, facts))
    if config.cfg_rescale is None:
        for name, given in guidance.items():
            guidance[name] = replace(given, rescale=HQ[name].rescale)
    first = Stage(
        name="stage 1",
        share=0.5,
        sigmas=shifted(steps, num_tokens=facts.first_tokens),
        sampler="res_2s",
        guidance=guidance,
        distilled_lora=config.lora_strength_stage_1,
        references=True,
    )
    second = _refinement(facts, strength=config.lora_strength_stage_2)
    second = replace(second, sampler="res_2s")
    return Recipe(stages=(first, second), streams=streams, sound_of=0)


def _remade(config: GenerateConfig, facts: Facts, streams: Streams) -> Recipe:
    """Retake and extend: one stage at the clip's own size, as the weights are made for."""
    if facts.variant == "dev":
        return Recipe(stages=(_guided(config, facts, name="sampling"),), streams=streams)
    if fields := config.given(*GUIDANCE, "max_batch_size"):
        raise UserError(f"{flags(fields)}: distilled weights have no guidance; dev weights have")
    sigmas, notes = _distilled_sigmas(config)
    stage = Stage(name="sampling", share=1.0, sigmas=sigmas, references=True)
    return Recipe(stages=(stage,), streams=streams, notes=tuple(notes))


def _guided(config: GenerateConfig, facts: Facts, *, name: str) -> Stage:
    return Stage(
        name=name,
        share=1.0,
        sigmas=shifted(config.steps or DEFAULT_STEPS),
        guidance=_guidance(config, facts),
        references=True,
    )


def _refinement(facts: Facts, *, strength: float) -> Stage:
    return Stage(name="stage 2", share=0.5 * facts.upscale, sigmas=REFINE, distilled_lora=strength)


def _refining_strength(config: GenerateConfig) -> float:
    """Of --distilled-lora, else --lora-strength if that is for no other LoRA."""
    named = config.distilled_lora
    if named is not None and named.strength is not None:
        return named.strength
    return 1.0 if config.lora else config.lora_strength


def _guidance(config: GenerateConfig, facts: Facts) -> GuidedStreams:
    """Scales as asked for; a sound that is given as a whole needs no guidance."""
    defaults = default_guidance(facts.version, num_layers=facts.num_layers)
    scales: dict[StreamName, tuple[float, int]] = {
        "video": (config.cfg_scale, config.skip_step),
        "audio": (config.audio_cfg_scale, config.audio_skip_step),
    }
    guided: dict[StreamName, Guidance] = {
        name: replace(
            defaults[name],
            cfg=cfg,
            stg=config.stg_scale,
            modality=config.modality_scale,
            rescale=defaults[name].rescale if config.cfg_rescale is None else config.cfg_rescale,
            stg_blocks=config.stg_blocks or defaults[name].stg_blocks,
            skip_step=skip_step,
            text=Apg(eta=0.0) if config.apg else "cfg",
        )
        for name, (cfg, skip_step) in scales.items()
        if name in _streams(config, facts)
    }
    if config.sound_is_kept:
        guided.pop("audio", None)
    return guided


def _cut(config: GenerateConfig, recipe: Recipe) -> Recipe:
    """Without a second stage where that was asked for."""
    if len(recipe.stages) == 1 or not (config.one_stage or config.skip_stage_2):
        return recipe
    first = recipe.stages[0]
    if config.one_stage:
        first = replace(first, name="sampling", share=1.0)
    return replace(recipe, stages=(first,), sound_of=0)
