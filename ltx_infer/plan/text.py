"""What encoding prompts takes: Gemma, then the projection, then the connectors."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ltx_infer.plan.networks import as_type, header_of, num_bytes
from ltx_infer.plan.parts import On, Part, work_of
from ltx_infer.plan.tape import trace
from ltx_models.checkpoint import Checkpoint
from ltx_models.text_encoder.connector import MAX_LENGTH, Connector
from ltx_models.text_encoder.features import load_feature_extractor
from ltx_models.text_encoder.gemma_config import GemmaConfig, read_gemma_config
from ltx_models.transformer.config import TransformerConfig
from ltx_models.weights import TensorFile

NOT_READ = ("vision_tower.", "multi_modal_projector.")  # of a Gemma that sees
IN_LAYER = 12  # arrays of a token's width that a layer has at once, beside its feed-forward
IN_FEED_FORWARD = 3


def most_tokens(prompt: str) -> int:
    """At most so many has a prompt: one a byte, and the one in front."""
    return min(len(prompt.encode()) + 1, MAX_LENGTH)


def text_parts(
    gemma: Path, checkpoint: Checkpoint, prompts: Sequence[str], *, audio: bool, on: On
) -> list[Part]:
    """One part for each network."""
    config = read_gemma_config(gemma)
    lengths = [most_tokens(prompt) for prompt in prompts]
    states = [config.num_features * length * on.dtype.size for length in lengths]
    extractor = as_type(
        load_feature_extractor(header_of(checkpoint), config, dtype=on.dtype), on.dtype
    )
    weights = num_bytes(extractor)
    given = mx.zeros((config.num_hidden_layers + 1, max(lengths), config.hidden_size), on.dtype)
    tape = trace(extractor, lambda x: list(extractor(x)), given)
    work = work_of(extractor, tape, on, once=len(prompts) == 1)
    projecting = Part("text features", weights, work + sum(states))
    # Of a few short prompts all states are there before the projection is read; else Gemma stays.
    kept = sum(states) if sum(states) <= weights else 0
    layer = _gemma_layer(config, max(lengths), on)
    found = Part("text encoder", encoder_bytes(gemma, on.dtype), kept + 2 * max(states) + layer)
    if not kept:
        projecting = projecting._replace(weights=weights + found.weights)
    return [found, projecting, connecting(checkpoint, len(prompts), audio=audio, on=on)]


def _gemma_layer(config: GemmaConfig, length: int, on: On) -> int:
    widths = IN_LAYER * config.hidden_size + IN_FEED_FORWARD * config.intermediate_size
    scores = 0 if on.pace.on_gpu else 2 * config.num_attention_heads * length
    return on.dtype.size * length * (widths + scores)


def connecting(checkpoint: Checkpoint, count: int, *, audio: bool, on: On) -> Part:
    """The connectors, and the contexts that they make of so many texts."""
    config = checkpoint.section("transformer", TransformerConfig)
    parts = [
        as_type(Connector(config, size), on.dtype)
        for size in (config.connector, config.audio_connector)[: 1 + audio]
    ]
    both = nn.Module()  # as they are evaluated together
    both.parts = parts
    widths = [each.size.dim for each in parts]
    tape = trace(
        both,
        lambda *features: [each(x) for each, x in zip(parts, features, strict=True)],
        *(mx.zeros((1, 1, width), on.dtype) for width in widths),
    )
    contexts = on.dtype.size * count * MAX_LENGTH * sum(widths)
    work = work_of(both, tape, on, once=count == 1)
    return Part("text connectors", num_bytes(both), work + contexts)


def encoder_bytes(folder: Path, dtype: mx.Dtype) -> int:
    """What a text encoder takes in memory; a file with integers in it stays as it is."""
    total = 0
    for path in sorted(folder.glob("model*.safetensors")):
        infos = {
            key: info
            for key, info in TensorFile(path).infos.items()
            if not any(part in key for part in NOT_READ)
        }
        quantised = any(info.dtype.startswith(("U", "I")) for info in infos.values())
        for info in infos.values():
            each = 4 if info.dtype == "U32" else dtype.size if not quantised else 2
            total += prod(info.shape) * each
    return total
