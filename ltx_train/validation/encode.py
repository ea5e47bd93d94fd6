"""Given media as what a stage of the pipeline takes: conditions of clean tokens.

They mean what they mean in training (spec/training.md 1.2), which is not always what the flags of
ltx-generate do: a suffix lies in the clip's own last latents, not beside them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.media.resize import temporal_subsample, to_pixels
from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.models import Models
from ltx_infer.sampling.conditions import (
    AudioCondition,
    AudioIndex,
    LatentIndex,
    Mask,
    Reference,
    ReferenceAudio,
    VideoCondition,
)
from ltx_models.audio_vae import AudioEncoder, encode_waveform, load_audio_encoder
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import audio_positions, patchify_audio
from ltx_models.video_vae import VideoEncoder, load_video_encoder
from ltx_models.video_vae.tiling import auto_tiling, tiled_encode
from ltx_train.config.validation import GIVES_ALL, ReferenceSample, SuffixSample, stream_of
from ltx_train.validation.media import Given, read_given
from ltx_train.validation.samples import Plan


class Encoders(NamedTuple):
    """Those of the streams that something is given of."""

    video: VideoEncoder | None
    audio: AudioEncoder | None


def encode_plans(plans: Sequence[Plan], models: Models) -> list[StageInputs]:
    """The inputs of every clip, evaluated; files are read one clip after the other.

    The encoders are freed again. Raises UserError for a clip of which nothing is left to make.
    """
    given = {stream_of(condition) for plan in plans for condition in plan.sample.conditions}
    encoders = Encoders(
        load_video_encoder(models.checkpoint, dtype=models.dtype) if "video" in given else None,
        # In float32, as what is trained on.
        load_audio_encoder(models.checkpoint, dtype=mx.float32) if "audio" in given else None,
    )
    found = [_inputs(plan, read_given(plan, models)[0], encoders, models) for plan in plans]
    del encoders
    mx.clear_cache()
    return found


def _inputs(plan: Plan, given: Sequence[Given], encoders: Encoders, models: Models) -> StageInputs:
    inputs = StageInputs(frozen=plan.frozen)
    for each in given:
        whole = GIVES_ALL.get(each.condition.type)
        if stream_of(each.condition) == "video":
            latents = _latents(each, plan, _there(encoders.video))
            if whole:
                inputs = inputs._replace(video_start=latents)
            else:
                made = _video_condition(each, latents, models.latent_size(plan.size)[0])
                inputs = inputs._replace(video=(*inputs.video, made))
        else:
            tokens = _tokens(each, _there(encoders.audio))
            total = models.num_audio_latents(plan.size)
            if whole:
                inputs = inputs._replace(audio_start=tokens)
            else:
                more = _audio_conditions(each, tokens, total, models)
                inputs = inputs._replace(audio=(*inputs.audio, *more))
    _check_left(plan, inputs, models)
    return inputs


def _there(encoder):
    assert encoder is not None  # loaded, as something is given of its stream
    return encoder


def _latents(given: Given, plan: Plan, encoder: VideoEncoder) -> mx.array:
    """(1, C, F, H, W) of the frames; evaluated."""
    assert given.frames is not None
    part = every = 1
    if isinstance(given.condition, ReferenceSample):
        part = given.condition.downscale_factor
        every = given.condition.temporal_scale_factor
    height, width = plan.size.height // part, plan.size.width // part
    pixels = to_pixels(given.frames, height=height, width=width)
    scale = encoder.config.scale
    tiling = auto_tiling(height // scale.space, width // scale.space, scale=scale)
    shown = mx.array(temporal_subsample(pixels, factor=every))
    latents = tiled_encode(encoder, shown, tiling).astype(mx.float32)
    mx.eval(latents)
    return latents


def _tokens(given: Given, encoder: AudioEncoder) -> mx.array:
    """(1, T, C) of the sound, what is given of it; evaluated."""
    assert given.sound is not None
    waveform = mx.array(given.sound.samples)[None]
    latents = encode_waveform(encoder, waveform, sampling_rate=given.sound.rate)
    first, last = given.span
    tokens = mx.contiguous(patchify_audio(latents.astype(mx.float32))[:, first:last])
    mx.eval(tokens)
    return tokens


def _video_condition(given: Given, latents: mx.array, total: int) -> VideoCondition:
    condition = given.condition
    if given.mask is not None:
        return Mask(latents, given.mask[None].astype(np.float32))
    if isinstance(condition, ReferenceSample):
        return Reference(
            latents,
            space_factor=condition.downscale_factor,
            time_factor=condition.temporal_scale_factor,
        )
    if isinstance(condition, SuffixSample):
        first, last = given.span
        own = mx.contiguous(latents[:, :, first:last])
        return LatentIndex(own, latent_index=total - (last - first))
    return LatentIndex(latents)


def _audio_conditions(
    given: Given, tokens: mx.array, total: int, models: Models
) -> list[AudioCondition]:
    condition = given.condition
    if isinstance(condition, ReferenceSample):
        positions = audio_positions(tokens.shape[1], scale=models.audio_config.scale)
        return [ReferenceAudio(tokens, positions)]
    if given.mask is not None:
        return [
            AudioIndex(mx.contiguous(tokens[:, start:stop]), latent_index=start)
            for start, stop in _runs(given.mask)
        ]
    if isinstance(condition, SuffixSample):
        return [AudioIndex(tokens, latent_index=total - tokens.shape[1])]
    return [AudioIndex(tokens)]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Starts and stops of what is true in a mask (T,)."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in list(pairwise(edges))[::2]]


def _check_left(plan: Plan, inputs: StageInputs, models: Models) -> None:
    """Raise UserError where conditions give all tokens of a stream."""
    for name in plan.recipe.streams:
        if name == "video":
            left = np.ones(models.latent_size(plan.size), bool)
            for one in inputs.video:
                match one:
                    case LatentIndex(latents, _, first):
                        left[first : first + latents.shape[2]] = False
                    case Mask(_, mask):
                        left &= mask[0] == 0
        else:
            left = np.ones(models.num_audio_latents(plan.size), bool)
            for one in inputs.audio:
                if isinstance(one, AudioIndex):
                    left[one.latent_index :][: one.tokens.shape[1]] = False
        if name not in plan.frozen and not left.any():
            raise UserError(f"{plan.at}.conditions: they give all of the {name}; nothing is made")
