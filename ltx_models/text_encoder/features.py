"""Gemma's hidden states to the text features of each stream (spec/model.md 6.2).

Only valid tokens come in, so there is no padding to mask. Letters: L layers of Gemma, S tokens,
D Gemma's width.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import PROJECTION
from ltx_models.text_encoder.gemma_config import WOULD_FIT, GemmaConfig
from ltx_models.transformer.config import TransformerConfig
from ltx_models.weights import WeightsError

EPS = 1e-6


class TextFeatures(NamedTuple):
    """One prompt's tokens as the connectors take them; these are what a trainer keeps."""

    video: mx.array  # (S, width of the video connector)
    audio: mx.array  # (S, width of the sound connector)


def normalize_by_range(states: mx.array) -> mx.array:
    """V1: 8 (x - mean) / (max - min) of each layer over all tokens and channels, in float32."""
    x = states.astype(mx.float32)
    mean = x.sum(axis=(1, 2), keepdims=True) / (x[0].size + EPS)
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    return 8 * (x - mean) / (high - low + EPS)


def normalize_by_token(states: mx.array) -> mx.array:
    """V2: every token of every layer to a root mean square of 1 over its channels, in float32."""
    return mx.fast.rms_norm(states.astype(mx.float32), None, EPS)


def flatten_layers(states: mx.array) -> mx.array:
    """(L + 1, S, D) to (S, D (L + 1)), the layer fastest."""
    return states.transpose(1, 2, 0).flatten(1)


class FeatureExtractorV1(nn.Module):
    """LTX-2: one projection, which both connectors share."""

    def __init__(self, num_features: int, *, dim: int):
        super().__init__()
        self.aggregate_embed = nn.Linear(num_features, dim, bias=False)

    def __call__(self, states: mx.array) -> TextFeatures:
        """Features of hidden states (L + 1, S, D)."""
        x = flatten_layers(normalize_by_range(states))
        features = self.aggregate_embed(x.astype(self.aggregate_embed.weight.dtype))
        return TextFeatures(video=features, audio=features)


class FeatureExtractorV2(nn.Module):
    """LTX-2.3: a projection for each stream."""

    def __init__(self, num_features: int, *, dim: int, audio_dim: int):
        super().__init__()
        self.video_aggregate_embed = nn.Linear(num_features, dim)
        self.audio_aggregate_embed = nn.Linear(num_features, audio_dim)

    def __call__(self, states: mx.array) -> TextFeatures:
        """Features of hidden states (L + 1, S, D)."""
        x = flatten_layers(normalize_by_token(states))
        gemma_dim = states.shape[-1]
        return TextFeatures(
            video=_project(self.video_aggregate_embed, x, gemma_dim),
            audio=_project(self.audio_aggregate_embed, x, gemma_dim),
        )


def _project(linear: nn.Linear, x: mx.array, gemma_dim: int) -> mx.array:
    scale = (linear.weight.shape[0] / gemma_dim) ** 0.5
    return linear((x * scale).astype(linear.weight.dtype))


FeatureExtractor = FeatureExtractorV1 | FeatureExtractorV2


def load_feature_extractor(
    checkpoint: Checkpoint, gemma: GemmaConfig, *, dtype: mx.Dtype
) -> FeatureExtractor:
    """The projection of hidden states of this Gemma, its weights unread until they are first used.

    Raises WeightsError if the checkpoint's projection was made for another Gemma.
    """
    _check_width(checkpoint, gemma)
    return _filled(checkpoint, gemma.num_features, dtype)


def load_own_feature_extractor(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> FeatureExtractor:
    """``load_feature_extractor`` for whatever Gemma the checkpoint's projection was made for."""
    found = [checkpoint.file.infos[PROJECTION + n].shape for n in checkpoint.file.keys(PROJECTION)]
    widths = [shape[1] for shape in found if len(shape) == 2]
    return _filled(checkpoint, max(widths, default=1), dtype)


def _filled(checkpoint: Checkpoint, num_features: int, dtype: mx.Dtype) -> FeatureExtractor:
    config = checkpoint.section("transformer", TransformerConfig)
    dim, audio_dim = config.connector.dim, config.audio_connector.dim
    extractor = (
        FeatureExtractorV1(num_features, dim=dim)
        if config.feature_version == "V1"
        else FeatureExtractorV2(num_features, dim=dim, audio_dim=audio_dim)
    )
    return checkpoint.fill(extractor, {"": PROJECTION}, dtype=dtype)


def _check_width(checkpoint: Checkpoint, gemma: GemmaConfig) -> None:
    for name in checkpoint.file.keys(PROJECTION):  # not a dict's
        shape = checkpoint.file.infos[PROJECTION + name].shape
        if len(shape) == 2 and shape[1] != gemma.num_features:
            raise WeightsError(
                f"{checkpoint.path}: its text projection takes {shape[1]} features a token, but "
                f"this Gemma gives {gemma.num_features}: {gemma.hidden_size} channels x "
                f"{gemma.num_hidden_layers + 1} hidden states\n{WOULD_FIT}."
            )
