"""Prompts to contexts, one network after the other, so that the largest alone fills the memory.

Gemma, projection and connectors can be loaded and called one by one, too: a trainer keeps the
features of its captions and applies the connectors later.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_models.text_encoder.connector import MAX_LENGTH, load_connectors
from ltx_models.text_encoder.features import TextFeatures, load_feature_extractor
from ltx_models.text_encoder.gemma import hidden_states, load_gemma
from ltx_models.text_encoder.gemma_config import GemmaConfig, read_gemma_config
from ltx_models.text_encoder.tokenizer import load_tokenizer, num_tokens, tokenize


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
) -> list[PromptContext]:
    """The contexts of some prompts, evaluated; every network is freed again.

    ``max_length`` is the length to which a prompt is cut and filled up.
    """
    features = encode_features(
        gemma_folder, checkpoint, prompts, max_length=max_length, dtype=dtype
    )
    contexts = connect(checkpoint, features, audio=audio, length=max_length, dtype=dtype)
    mx.clear_cache()
    return contexts


def encode_features(
    gemma_folder: Path,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    *,
    max_length: int = MAX_LENGTH,
    dtype: mx.Dtype,
) -> list[TextFeatures]:
    """The features of each prompt's own tokens, evaluated; Gemma and projection are freed again.

    Between the two networks all hidden states are held: with Gemma 3 12B in bfloat16 0.4 MB a
    token. Raises UserError for a folder that is no whole Gemma 3 or not that of the checkpoint, and
    where its weights give features that are not finite.
    """
    config = read_gemma_config(gemma_folder)
    extractor = load_feature_extractor(checkpoint, config, dtype=dtype)  # misfits show before Gemma
    states = _encode_states(gemma_folder, config, prompts, max_length=max_length, dtype=dtype)
    mx.clear_cache()  # gives back what Gemma held
    features = []
    for prompt, each in zip(prompts, states, strict=True):
        features.append(extractor(each))
        mx.eval(features[-1])
        if not all(mx.isfinite(stream).all() for stream in features[-1]):
            raise UserError(
                f"{gemma_folder}: this text encoder gives values that are not finite for "
                f"{shorten(prompt, 40)!r}\n"
                "Fetch it again, or name another conversion with --text-encoder-repo DIR."
            )
    return features


def num_tokens_left_out(gemma_folder: Path, prompt: str, *, max_length: int = MAX_LENGTH) -> int:
    """How many of a prompt's last tokens do not fit ``max_length``, for a caller to warn of.

    The tokenizer, which takes a second, is loaded only for a prompt that may be too long.
    """
    if len(prompt.encode()) < max_length:  # a token is a byte at least, and BOS comes on top
        return 0
    return max(num_tokens(load_tokenizer(gemma_folder), prompt) - max_length, 0)


def _encode_states(
    gemma_folder: Path,
    config: GemmaConfig,
    prompts: Sequence[str],
    *,
    max_length: int,
    dtype: mx.Dtype,
) -> list[mx.array]:
    tokenizer = load_tokenizer(gemma_folder)
    ids = [tokenize(tokenizer, prompt, max_length=max_length) for prompt in prompts]
    if (largest := max(map(max, ids), default=0)) >= config.vocab_size:
        raise UserError(
            f"{gemma_folder}: its tokenizer.json gives token {largest}, "
            f"but its config.json has a vocabulary of {config.vocab_size}"
        )
    gemma = load_gemma(gemma_folder, config, dtype=dtype)
    states = []
    for each in ids:
        states.append(hidden_states(gemma, each))
        mx.eval(states[-1])
    return states


def connect(
    checkpoint: Checkpoint,
    features: Sequence[TextFeatures],
    *,
    audio: bool = True,
    length: int = MAX_LENGTH,
    dtype: mx.Dtype,
) -> list[PromptContext]:
    """The contexts of each prompt's features, evaluated; the connectors are freed again."""
    connectors = load_connectors(checkpoint, dtype=dtype)
    contexts = []
    for each in features:
        video = connectors.video(each.video[None], length=length)
        sound = connectors.audio(each.audio[None], length=length) if audio else None
        contexts.append(PromptContext(video, sound))
        mx.eval(contexts[-1])
    return contexts
