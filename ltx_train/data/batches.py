"""Samples to batches, with what is drawn for them: conditions, levels, noise, captions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.text_encoder import PromptContext
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.patchify import (
    AudioScale,
    VideoScale,
    audio_positions,
    patchify_audio,
    patchify_video,
    video_positions,
)
from ltx_train.config import TrainConfig
from ltx_train.config.strategy import (
    Condition,
    FirstFrame,
    Mask,
    Prefix,
    SpatialCrop,
    StrategyConfig,
    StreamConfig,
    Suffix,
)
from ltx_train.config.strategy import Reference as ReferenceConfig
from ltx_train.data.conditions import (
    Given,
    Reference,
    Size,
    Source,
    draw_batch,
    first_units,
    last_units,
    masked,
    reference_positions,
    region,
)
from ltx_train.data.dataset import Dataset
from ltx_train.data.draws import seeded_draws
from ltx_train.data.geometry import AS_LARGE, Factors
from ltx_train.data.order import endless_batches
from ltx_train.data.samples import Part, Role, Sample, read_part
from ltx_train.loss import Batch

DRAWS, CAPTIONS = 1, 3  # which of the seed's streams of random numbers; 0 is the samples' order

REFERENCES: Mapping[StreamName, Role] = {"video": "video_reference", "audio": "audio_reference"}
MASKS: Mapping[StreamName, Role] = {"video": "video_mask", "audio": "audio_mask"}

_Tokens = tuple[mx.array, np.ndarray]  # (B, T, C), and positions (B, axes, T, 2)
Contexts = Callable[[Sample | None], PromptContext]  # of a sample's caption, or of none


class Scales(NamedTuple):
    """What one latent stands for; the sound's where there is sound."""

    video: VideoScale
    audio: AudioScale


def data_folders(strategy: StrategyConfig) -> dict[str, Role]:
    """The folders of the data that a run reads beside the text features, and what each is to it."""
    folders: dict[str, Role] = {}
    for name, stream in streams(strategy).items():
        folders[stream.latents_dir] = name
        for condition in stream.conditions:
            if isinstance(condition, ReferenceConfig):
                folders[condition.latents_dir] = REFERENCES[name]
            elif isinstance(condition, Mask):
                folders[condition.mask_dir] = MASKS[name]
    return folders


def make_batches(
    dataset: Dataset, contexts: Contexts, config: TrainConfig, *, scales: Scales, start: int = 0
) -> Iterator[Batch]:
    """Batches for ever, from number ``start``, which is the first one's 0.

    Number, seed and samples alone decide a batch, so that a run can be taken up anywhere.
    """
    chosen = endless_batches(
        dataset.samples,
        batch_size=config.optimization.batch_size,
        seed=config.seed,
        start=start,
    )
    for number, samples in zip(count(start), chosen, strict=False):
        yield make_batch(samples, dataset, contexts, config, scales=scales, number=number)


def make_batch(
    samples: Sequence[Sample],
    dataset: Dataset,
    contexts: Contexts,
    config: TrainConfig,
    *,
    scales: Scales,
    number: int,
) -> Batch:
    """Samples of one size as a batch, with what the seed and the batch's number draw for it."""
    strategy = config.training_strategy
    without = np.random.default_rng([config.seed, CAPTIONS, number]).random(len(samples))
    told = [
        contexts(None if draw < strategy.caption_dropout else sample)
        for draw, sample in zip(without, samples, strict=True)
    ]
    sources: dict[StreamName, Source] = {
        name: _source(
            samples,
            stream,
            dataset,
            scales=scales,
            context=mx.concatenate([_of_stream(each, name) for each in told]),
        )
        for name, stream in streams(strategy).items()
    }
    flow = config.flow_matching
    draws = seeded_draws(
        (config.seed, DRAWS, number),
        mode=flow.timestep_sampling_mode,
        params=flow.timestep_sampling_params,
    )
    return draw_batch(sources, draws, shared_sigma=strategy.shared_sigma)


def streams(strategy: StrategyConfig) -> dict[StreamName, StreamConfig]:
    """The streams that a run has."""
    pairs: dict[StreamName, StreamConfig | None] = {
        "video": strategy.video,
        "audio": strategy.audio,
    }
    return {name: stream for name, stream in pairs.items() if stream is not None}


def _of_stream(context: PromptContext, name: StreamName) -> mx.array:
    chosen = context.video if name == "video" else context.audio
    assert chosen is not None  # a run with sound makes contexts for it
    return chosen


def _source(
    samples: Sequence[Sample],
    stream: StreamConfig,
    dataset: Dataset,
    *,
    scales: Scales,
    context: mx.array,
) -> Source:
    parts = [sample.parts[stream.latents_dir] for sample in samples]
    x_0, positions = _tokens(parts, scales)
    size = token_grid(parts[0])
    given, references = [], []
    for condition in stream.conditions:
        if isinstance(condition, ReferenceConfig):
            shown = [sample.parts[condition.latents_dir] for sample in samples]
            factors = dataset.factors.get(condition.latents_dir, AS_LARGE)
            tokens = _reference_tokens(shown, parts, factors, scales)
            references.append(Reference(*tokens, condition.probability))
        else:
            tokens = given_tokens(condition, samples, size, scale=scales.video)
            given.append(Given(tokens, condition.probability))
    return Source(
        x_0=x_0,
        positions=positions,
        context=context,
        given=given,
        references=references,
        is_generated=stream.is_generated,
        loss_weight=stream.loss_weight,
    )


def token_grid(part: Part) -> Size:
    """Latent frames, rows and columns; a sound has one row and one column."""
    if "audio" in part.role:
        return part.shape[1], 1, 1
    _, frames, height, width = part.shape
    return frames, height, width


def _tokens(parts: Sequence[Part], scales: Scales) -> _Tokens:
    """Latents of samples as tokens, and where they lie."""
    latents = mx.stack([read_part(part) for part in parts])
    if "audio" in parts[0].role:
        at = [audio_positions(part.num_tokens, scale=scales.audio) for part in parts]
        return patchify_audio(latents), np.concatenate(at)
    at = [video_positions(token_grid(part), fps=part.fps, scale=scales.video) for part in parts]
    return patchify_video(latents), np.concatenate(at)


def _reference_tokens(
    shown: Sequence[Part], parts: Sequence[Part], factors: Factors, scales: Scales
) -> _Tokens:
    x_0, positions = _tokens(shown, scales)
    if "audio" in shown[0].role:
        return x_0, positions
    at = [
        reference_positions(
            token_grid(each),
            fps=each.fps,
            scale=scales.video,
            factors=factors,
            target_fps=part.fps,
        )
        for each, part in zip(shown, parts, strict=True)
    ]
    return x_0, np.concatenate(at)


def given_tokens(
    condition: Condition, samples: Sequence[Sample], size: Size, *, scale: VideoScale
) -> np.ndarray:
    """The tokens (T,), or (B, T) where samples differ, that a condition gives; of bool."""
    match condition:
        case FirstFrame():
            return first_units(size, 1)
        case Prefix():
            return first_units(size, condition.temporal_boundary)
        case Suffix():
            return last_units(size, condition.temporal_boundary)
        case SpatialCrop():
            return region(size, condition.spatial_region, scale=scale)
        case Mask():
            parts = [sample.parts[condition.mask_dir] for sample in samples]
            return masked(np.stack([np.array(read_part(part)) for part in parts]))
    raise AssertionError(condition)  # a reference gives none of a clip's own tokens
