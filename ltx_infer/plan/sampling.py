"""What a stage of sampling takes: the transformer, and one call of it with its passes."""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.plan.networks import Loaded, num_bytes
from ltx_infer.plan.parts import FLOAT, On, Part, work_of
from ltx_infer.plan.peak import peak
from ltx_infer.plan.tape import Tape, trace
from ltx_infer.sampling.guidance import Passes
from ltx_models.flow import denoised
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import BOTH, Modality, Perturbation, Prepared, Transformer
from ltx_models.transformer.timestep import Timesteps

COPIES_OF_TOKENS = 8  # clean, noisy, noise, predictions: float32
TRACED = 4  # blocks; what is queued ahead reaches over less
STREAMED = 2  # blocks that are in memory at a time where they are read from disk


class Tokens(NamedTuple):
    """Of one stream in one stage."""

    number: int  # those of conditions too
    several_levels: bool = False  # whether some are given, and have noise levels of their own
    masked: bool = False  # whether not all see each other


Streams = dict[StreamName, Tokens]


def sampling_part(
    name: str,
    loaded: Loaded,
    streams: Streams,
    passes: Passes,
    on: On,
    *,
    num_contexts: int,
    low_memory: bool = False,
) -> Part:
    """A stage whose largest call makes these passes; ``num_contexts`` prompts are kept."""
    model = loaded.model
    kept = sum(
        _kept(model, stream, tokens, num_contexts + len(passes), on.dtype)
        for stream, tokens in streams.items()
    )
    weights, blocks = num_bytes(model) + loaded.more, model.transformer_blocks
    try:
        model.transformer_blocks = blocks[: 1 if low_memory else TRACED]
        tape = call_tape(model, streams, passes, on.dtype)
        work = peak(tape, pace=on.pace) if low_memory else work_of(model, tape, on)
    finally:
        model.transformer_blocks = blocks
    if low_memory:
        each = [num_bytes(block) for block in blocks]
        weights += STREAMED * max(each) - sum(each)
    return Part(name, weights, work + kept)


def call_tape(model: Transformer, streams: Streams, passes: Passes, dtype: mx.Dtype) -> Tape:
    """One call of the transformer, and the clean tokens that it makes."""
    given = {name: _inputs(model, name, each, len(passes), dtype) for name, each in streams.items()}
    sizes = [len(arrays) for arrays in given.values()]

    def call(*arrays: mx.array) -> list[mx.array]:
        modalities: dict[str, Modality] = {}
        at = 0
        for (name, tokens), size in zip(streams.items(), sizes, strict=True):
            modalities[name] = _modality(arrays[at : at + size], tokens, crossed=len(streams) == 2)
            at += size
        velocities = model(
            modalities.get("video"),
            modalities.get("audio"),
            perturbations=[[_in_traced(p) for p in each.perturbations] for each in passes],
        )
        return [
            denoised(
                modalities[name].latents,
                velocity,
                modalities[name].timesteps.per_token()[..., None],
            )
            for name, velocity in zip(BOTH, velocities, strict=True)
            if velocity is not None
        ]

    return trace(model, call, *(array for arrays in given.values() for array in arrays))


def _in_traced(perturbation: Perturbation) -> Perturbation:
    """The same, of a block that is traced."""
    return perturbation if perturbation.blocks is None else perturbation._replace(blocks=(0,))


def _inputs(
    model: Transformer, name: StreamName, tokens: Tokens, batch: int, dtype: mx.Dtype
) -> list[mx.array]:
    config = model.config
    video = name == "video"
    dim, channels = (
        (config.dim, config.in_channels) if video else (config.audio_dim, config.audio_in_channels)
    )
    heads = config.num_attention_heads if video else config.audio_num_attention_heads
    table = (1, heads, tokens.number, dim // heads // 2)
    crossed = (1, heads, tokens.number, config.audio_attention_head_dim // 2)
    levels = 2 if tokens.several_levels else 1
    return [
        mx.zeros((batch, tokens.number, channels)),
        mx.zeros((batch,)),
        mx.zeros((levels,)),
        mx.zeros((batch, MAX_LENGTH, dim), dtype),
        *[mx.zeros(table, dtype)] * 2,
        *[mx.zeros(crossed, dtype)] * 2,
        mx.zeros((1, tokens.number), mx.int32),
        mx.zeros((1, 1, tokens.number, tokens.number) if tokens.masked else (1,), dtype),
    ]


def _modality(arrays: Sequence[mx.array], tokens: Tokens, *, crossed: bool) -> Modality:
    latents, sigma, values, context, cos, sin, cross_cos, cross_sin, which, mask = arrays
    prepared = Prepared(
        context=context,
        context_mask=None,
        attention_mask=mask if tokens.masked else None,
        rope=(cos, sin),
        cross_rope=(cross_cos, cross_sin) if crossed else None,
    )
    timesteps = Timesteps(values, which if tokens.several_levels else None)
    return Modality(latents, sigma, timesteps, prepared)


def _kept(
    model: Transformer, name: StreamName, tokens: Tokens, num_contexts: int, dtype: mx.Dtype
) -> int:
    """Bytes that a stream keeps through all steps."""
    config = model.config
    dim, channels = (
        (config.dim, config.in_channels)
        if name == "video"
        else (config.audio_dim, config.audio_in_channels)
    )
    contexts = dtype.size * num_contexts * MAX_LENGTH * dim
    tables = dtype.size * tokens.number * (dim + config.audio_dim)
    mask = (dtype.size + FLOAT) * tokens.number**2 if tokens.masked else 0
    return contexts + tables + mask + FLOAT * COPIES_OF_TOKENS * tokens.number * channels
