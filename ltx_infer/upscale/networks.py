"""The files that an upscaling needs, found and opened, and its networks, all loaded once."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.hub import ModelFiles, find_model
from ltx_infer.hub.fetch import Say
from ltx_infer.hub.request import fetch_distilled_lora, find_files
from ltx_infer.pipeline.loras import Loras, apply_loras, check_loras, open_loras
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.recipes import Facts, Recipe, make_recipe
from ltx_infer.pipeline.text import Contexts, encode_each, prompt_notes
from ltx_infer.progress import Report
from ltx_infer.upscale.config import UpscaleConfig
from ltx_models.check import check_temporal_upscaler, check_upscaler
from ltx_models.checkpoint import open_checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.transformer.model import Transformer
from ltx_models.upsampler import LatentUpsampler, load_upsampler
from ltx_models.video_vae import (
    VideoDecoder,
    VideoEncoder,
    load_video_decoder,
    load_video_encoder,
)


class Refinement(NamedTuple):
    """The second stage of the distilled pipeline alone, and its LoRAs."""

    recipe: Recipe
    loras: Loras


class Opened(NamedTuple):
    """Every file of a run, opened; no weights are read yet."""

    models: Models
    spatial: Path | None
    temporal: Path | None
    scale: float  # of height and width
    refinement: Refinement | None


class Networks(NamedTuple):
    """What every part of a clip goes through, in this order, and what the prompt says."""

    encoder: VideoEncoder
    spatial: LatentUpsampler | None
    temporal: LatentUpsampler | None
    transformer: Transformer | None
    contexts: Contexts
    decoder: VideoDecoder


def open_files(config: UpscaleConfig, *, say: Say) -> Opened:
    """Find and open what is asked for. Raises UserError for what cannot be had or does not fit."""
    files, gemma = _find(config, say=say)
    spatial = files.spatial_upscaler(config.upscaler_name) if config.spatial else None
    temporal = files.temporal_upscaler() if config.temporal else None
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.allow_unknown_config)
    models = Models(
        checkpoint=checkpoint,
        gemma=gemma,
        upscaler=spatial,
        dtype=compute_dtype(),
        bits=config.as_generated().quantize if config.refine else None,
        low_memory=config.low_memory,
        say=say,
    )
    scale = 1.0
    if spatial is not None:
        check_upscaler(checkpoint, spatial)
        scale = load_upsampler(spatial, dtype=models.dtype).config.spatial_scale
        if config.scale not in (None, scale):
            raise UserError(f"--scale {config.scale:g}: {spatial} scales by {scale:g}")
    if temporal is not None:
        check_temporal_upscaler(checkpoint, temporal)
    refinement = _refinement(config, models, files) if config.refine else None
    for note in files.notes:
        say(note)
    return Opened(models, spatial, temporal, scale, refinement)


def _find(config: UpscaleConfig, *, say: Say) -> tuple[ModelFiles, Path | None]:
    if not config.refine:
        return find_model(config.model, variant="distilled", say=say), None
    asked = config.as_generated()
    if not config.spatial:
        asked = asked.model_copy(update={"one_stage": True})
    found = find_files(asked, say=say)
    return found.model, found.gemma


def _refinement(config: UpscaleConfig, models: Models, files: ModelFiles) -> Refinement:
    """Fit the networks that refine, without reading weights."""
    asked = config.as_generated()
    version = models.checkpoint.version
    layers = models.transformer_config.num_layers
    recipe = make_recipe(
        asked,
        Facts(version=version, variant=files.variant, num_layers=layers, first_tokens=1),
    )
    refining = replace(recipe.stages[-1], name="refine", share=1.0)
    recipe = replace(recipe, stages=(refining,), sound_of=0)
    models.check()
    if any(recipe.distilled_strengths):
        fetch_distilled_lora(asked, files)
    loras = open_loras(asked, recipe, folder=files.folder, stored=models.stored)
    loras = loras._replace(say=models.say)
    cut = prompt_notes(models, recipe, [asked.prompt], "")
    files.notes.extend([*recipe.notes, *loras.notes, *check_loras(models, loras, recipe), *cut])
    return Refinement(recipe, loras)


def load_networks(config: UpscaleConfig, opened: Opened, *, report: Report) -> Networks:
    """Everything that a part of a clip goes through; Gemma comes first, and is freed again."""
    models = opened.models
    transformer, contexts = None, {}
    if opened.refinement is not None:
        assert config.prompt is not None  # as ``faults`` says
        recipe, loras = opened.refinement
        report("text", 0, 1)
        (contexts,) = encode_each(models, recipe, [config.prompt], "", loras=loras)
        mx.eval(contexts)
        report("text", 1, 1)
        transformer = models.transformer(recipe.streams)
        apply_loras(transformer, loras, recipe.stages[0])
    return Networks(
        load_video_encoder(models.checkpoint, dtype=models.dtype),
        None if opened.spatial is None else load_upsampler(opened.spatial, dtype=models.dtype),
        None if opened.temporal is None else load_upsampler(opened.temporal, dtype=models.dtype),
        transformer,
        contexts,
        load_video_decoder(models.checkpoint, dtype=models.dtype),
    )
