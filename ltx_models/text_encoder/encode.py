"""Prompts to contexts, one network after the other, so that the largest alone fills the memory.

Gemma, projection and connectors can be loaded and called one by one, too: a trainer keeps the
features of its captions and applies the connectors later.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import CONNECTORS, PROJECTION, TRANSFORMER
from ltx_models.errors import UserError
from ltx_models.text_encoder.connector import MAX_LENGTH, Connectors, load_connectors
from ltx_models.text_encoder.features import FeatureExtractor, TextFeatures, load_feature_extractor
from ltx_models.text_encoder.gemma import hidden_states, load_gemma
from ltx_models.text_encoder.gemma_config import GemmaConfig, read_gemma_config
from ltx_models.text_encoder.tokenizer import load_tokenizer, num_tokens, tokenize
from ltx_models.weights import shapes

# Changes networks of the text path once they are loaded, given by their names in a checkpoint.
Adapt = Callable[[Mapping[str, nn.Module]], None]


def named(
    extractor: FeatureExtractor | None = None, connectors: Connectors | None = None
) -> dict[str, nn.Module]:
    """Networks of the text path by their names in a checkpoint."""
    found: dict[str, nn.Module] = {}
    if extractor is not None:
        found[PROJECTION.removesuffix(".")] = extractor
    if connectors is not None:
        names = [name.removeprefix(TRANSFORMER).removesuffix(".") for name in CONNECTORS]
        found |= dict(zip(names, connectors, strict=True))
    return found


class PromptContext(NamedTuple):
    """What the transformer is told of one prompt; all S places are valid."""

    video: mx.array  # (1, S, width of the video connector)
    audio: mx.array | None  # (1, S, width of the sound connector), if sound is wanted


def encode_prompts(
    gemma_folder: Path,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    *,
    audio: bool = True,
    max_length: int = MAX_LENGTH,
    dtype: mx.Dtype,
    adapt: Adapt | None = None,
) -> list[PromptContext]:
    """The contexts of some prompts, evaluated; every network is freed again.

    ``max_length`` is the length to which a prompt is cut and filled up. ``adapt`` puts LoRAs on
    projection and connectors.
    """
    features = encode_features(
        gemma_folder, checkpoint, prompts, max_length=max_length, dtype=dtype, adapt=adapt
    )
    contexts = connect(
        checkpoint, features, audio=audio, length=max_length, dtype=dtype, adapt=adapt
    )
    mx.clear_cache()
    return contexts


def encode_features(
    gemma_folder: Path,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    *,
    max_length: int = MAX_LENGTH,
    dtype: mx.Dtype,
    adapt: Adapt | None = None,
) -> list[TextFeatures]:
    """The features of each prompt's own tokens, evaluated; Gemma and projection are freed again.

    Raises UserError as ``stream_features`` does.
    """
    return list(
        stream_features(
            gemma_folder, checkpoint, prompts, max_length=max_length, dtype=dtype, adapt=adapt
        )
    )


def stream_features(
    gemma_folder: Path,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    *,
    max_length: int = MAX_LENGTH,
    dtype: mx.Dtype,
    adapt: Adapt | None = None,
) -> Iterator[TextFeatures]:
    """The features of each prompt's own tokens, one prompt after the other, evaluated.

    Hidden states are large: of Gemma 3 12B in bfloat16 0.4 MB a token, against 2.3 GB of LTX-2.3's
    projection. So Gemma is freed before the projection is read where all states are smaller than
    that; where there are more, both stay, and memory does not grow with the number of prompts.
    Raises UserError for a folder that is no whole Gemma 3 or not that of the checkpoint, and where
    its weights give features that are not finite.
    """
    config = read_gemma_config(gemma_folder)
    extractor = load_feature_extractor(checkpoint, config, dtype=dtype)  # misfits show before Gemma
    ids = _token_ids(gemma_folder, config, prompts, max_length=max_length)
    states = _each_states(gemma_folder, config, ids, dtype=dtype)
    num_values = sum(map(len, ids)) * config.num_features
    if num_values <= sum(map(prod, shapes(extractor).values())):
        states = iter(list(states))
        mx.clear_cache()  # gives back what Gemma held
    if adapt is not None:
        adapt(named(extractor))
    for prompt in prompts:
        features = extractor(next(states))
        mx.eval(features)
        if not all(mx.isfinite(stream).all() for stream in features):
            raise UserError(
                f"{gemma_folder}: this text encoder gives values that are not finite for "
                f"{shorten(prompt, 40)!r}\n"
                "Fetch it again, or name another conversion with --text-encoder-repo DIR."
            )
        yield features
        mx.clear_cache()  # prompts are of many lengths, and so are the buffers they leave


def num_tokens_left_out(
    gemma_folder: Path, prompts: Sequence[str], *, max_length: int = MAX_LENGTH
) -> list[int]:
    """How many of each prompt's last tokens do not fit ``max_length``, for a caller to warn of.

    The tokenizer, which takes a second, is loaded only if a prompt may be too long.
    """
    # A token is a byte at least, and BOS comes on top.
    long = [prompt for prompt in prompts if len(prompt.encode()) >= max_length]
    tokenizer = load_tokenizer(gemma_folder) if long else None
    counts = {prompt: num_tokens(tokenizer, prompt) for prompt in long} if tokenizer else {}
    return [max(counts.get(prompt, 0) - max_length, 0) for prompt in prompts]


def _token_ids(
    gemma_folder: Path, config: GemmaConfig, prompts: Sequence[str], *, max_length: int
) -> list[list[int]]:
    tokenizer = load_tokenizer(gemma_folder)
    ids = [tokenize(tokenizer, prompt, max_length=max_length) for prompt in prompts]
    if (largest := max(map(max, ids), default=0)) >= config.vocab_size:
        raise UserError(
            f"{gemma_folder}: its tokenizer.json gives token {largest}, "
            f"but its config.json has a vocabulary of {config.vocab_size}"
        )
    return ids


def _each_states(
    gemma_folder: Path, config: GemmaConfig, ids: Sequence[list[int]], *, dtype: mx.Dtype
) -> Iterator[mx.array]:
    """The hidden states of each prompt, evaluated; Gemma is held until the last is taken."""
    gemma = load_gemma(gemma_folder, config, dtype=dtype)
    for each in ids:
        yield _evaluated(hidden_states(gemma, each))


def _evaluated(states: mx.array) -> mx.array:
    mx.eval(states)
    return states


def connect(
    checkpoint: Checkpoint,
    features: Sequence[TextFeatures],
    *,
    audio: bool = True,
    length: int = MAX_LENGTH,
    dtype: mx.Dtype,
    adapt: Adapt | None = None,
) -> list[PromptContext]:
    """The contexts of each prompt's features, evaluated; the connectors are freed again."""
    connectors = load_connectors(checkpoint, dtype=dtype)
    if adapt is not None:
        adapt(named(connectors=connectors))
    contexts = []
    for each in features:
        video = connectors.video(each.video[None], length=length)
        sound = connectors.audio(each.audio[None], length=length) if audio else None
        contexts.append(PromptContext(video, sound))
        mx.eval(contexts[-1])
    return contexts
