"""The whole released checkpoint, by its keys and shapes (spec/model.md part 1)."""

from math import prod

import pytest

from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.text_encoder.features import FeatureExtractorV1
from ltx_models.tiny import networks
from ltx_models.transformer.config import TransformerConfig
from ltx_models.weights import shapes
from tests.full_size import NUM_FEATURES, full_size_shapes


def test_the_monolith_has_5947_keys():
    found = full_size_shapes()
    assert len(found) == 5947
    parts = {
        "model.diffusion_model.": 4186 + 2 * 129,
        "text_embedding_projection.": 4,
        "vocoder.": 1227,
        "vae.per_channel_statistics.": 2,
        "audio_vae.per_channel_statistics.": 2,
    }
    counted = {prefix: sum(key.startswith(prefix) for key in found) for prefix in parts}
    assert counted == parts
    assert len(found) - sum(parts.values()) == 268  # encoders and decoders


def test_projection_of_the_first_generation():
    dim = TransformerConfig.read(LTX_2["transformer"]).connector.dim
    extractor = FeatureExtractorV1(NUM_FEATURES, dim=dim)
    assert shapes(extractor) == {"aggregate_embed.weight": (3840, 188160)}


@pytest.mark.parametrize(("stream", "dim"), [("video", 4096), ("audio", 2048)])
def test_projections_of_the_second_generation(stream, dim):
    extractor = networks(LTX_2_3, num_features=NUM_FEATURES)["text_embedding_projection."]
    found = {key: shape for key, shape in shapes(extractor).items() if stream in key}
    assert found == {
        f"{stream}_aggregate_embed.weight": (dim, 188160),
        f"{stream}_aggregate_embed.bias": (dim,),
    }
    assert sum(map(prod, found.values())) == 188160 * dim + dim
