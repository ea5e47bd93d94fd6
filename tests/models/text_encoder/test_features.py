import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.text_encoder.features import (
    FeatureExtractorV1,
    FeatureExtractorV2,
    flatten_layers,
    load_feature_extractor,
    normalize_by_range,
    normalize_by_token,
)
from ltx_models.text_encoder.gemma_config import GemmaConfig, read_gemma_config
from ltx_models.weights import WeightsError

seeds = st.integers(0, 2**31)


def hidden(seed: int = 0, layers: int = 3, tokens: int = 5, dim: int = 4) -> mx.array:
    return mx.random.normal((layers, tokens, dim), key=mx.random.key(seed))


def test_layers_lie_fastest():
    states = mx.arange(3 * 2 * 4).reshape(3, 2, 4)
    flat = flatten_layers(states)
    assert flat.shape == (2, 12)
    assert flat[1].tolist() == [states[layer, 1, d].item() for d in range(4) for layer in range(3)]


@settings(deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_range_norm_forgets_scale_and_shift(seed, scale, shift):
    states = hidden(seed)
    found = normalize_by_range(states)
    assert mx.allclose(normalize_by_range(states * scale + shift), found, atol=0.01)
    assert mx.allclose(found.mean(axis=(1, 2)), mx.zeros(3), atol=1e-4)
    width = found.max(axis=(1, 2)) - found.min(axis=(1, 2))
    assert mx.allclose(width, mx.full(3, 8.0), rtol=1e-4)


@settings(deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 100))
def test_token_norm_forgets_the_scale_of_a_token(seed, scale):
    states = hidden(seed, dim=64)  # so many that no token comes near 1e-6, the constant beside it
    found = normalize_by_token(states)
    scaled = mx.concatenate([states[:, :1] * scale, states[:, 1:]], axis=1)
    assert mx.allclose(normalize_by_token(scaled), found, atol=1e-3)
    assert mx.allclose(found.square().mean(axis=-1), mx.ones((3, 5)), rtol=1e-2)


def test_v1_shares_its_features():
    extractor = FeatureExtractorV1(12, dim=6)
    features = extractor(hidden())
    flat = flatten_layers(normalize_by_range(hidden()))
    assert mx.allclose(features.video, flat @ extractor.aggregate_embed.weight.T, atol=1e-5)
    assert mx.array_equal(features.video, features.audio)


def test_v2_scales_by_the_width_of_each_stream():
    extractor = FeatureExtractorV2(12, dim=16, audio_dim=9)
    features = extractor(hidden())
    flat = flatten_layers(normalize_by_token(hidden()))
    for found, linear, scale in [
        (features.video, extractor.video_aggregate_embed, 2.0),
        (features.audio, extractor.audio_aggregate_embed, 1.5),
    ]:
        assert mx.allclose(found, scale * flat @ linear.weight.T + linear.bias, atol=1e-5)


def test_statistics_are_float32_and_features_of_the_weights_type():
    states = hidden(tokens=300, dim=48).astype(mx.bfloat16)
    assert normalize_by_range(states).dtype == mx.float32
    assert normalize_by_token(states).dtype == mx.float32
    extractor = FeatureExtractorV2(144, dim=8, audio_dim=8)
    extractor.set_dtype(mx.bfloat16)
    assert extractor(states).video.dtype == mx.bfloat16


def test_golden_checkpoints_load(checkpoint, gemma_folder):
    extractor = load_feature_extractor(
        checkpoint, read_gemma_config(gemma_folder), dtype=mx.float32
    )
    video, audio = extractor(hidden(layers=4, dim=48))
    assert video.shape[0] == audio.shape[0] == 5
    assert np.isfinite(np.array(video)).all()
    assert np.isfinite(np.array(audio)).all()


def test_a_projection_of_no_shape_is_an_error(changed_checkpoint, gemma_folder):
    def change(tensors):
        (name,) = [
            key
            for key in tensors
            if key.endswith((".aggregate_embed.weight", "video_aggregate_embed.weight"))
        ]
        return tensors | {name: mx.zeros(())}

    with pytest.raises(
        WeightsError, match=r"aggregate_embed\.weight: \(\) in the file, \(\d+, 192\)"
    ):
        load_feature_extractor(
            changed_checkpoint(change), read_gemma_config(gemma_folder), dtype=mx.float32
        )


def test_another_gemma_is_an_error(checkpoint):
    gemma = GemmaConfig(hidden_size=2560, num_hidden_layers=34)
    with pytest.raises(WeightsError) as error:
        load_feature_extractor(checkpoint, gemma, dtype=mx.float32)
    assert "its text projection takes 192 features a token, but this Gemma gives 89600: " in str(
        error.value
    )
    assert "2560 channels x 35 hidden states\nLTX-2 reads its text with Gemma 3 12B" in str(
        error.value
    )


def test_spare_projection_is_an_error(changed_checkpoint, gemma_folder):
    spare = {"text_embedding_projection.image_aggregate_embed.weight": mx.zeros((4, 192))}
    checkpoint = changed_checkpoint(lambda tensors: tensors | spare)
    with pytest.raises(WeightsError, match=r"unknown: text_embedding_projection\.image_"):
        load_feature_extractor(checkpoint, read_gemma_config(gemma_folder), dtype=mx.float32)
