"""LoRAs on connectors and text projection, which lie outside the transformer."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.lora.adapters import Strength, attach, attach_text_path, fuse
from ltx_models.lora.files import LoRAError, LoRAFile, read_lora
from ltx_models.lora.fit import fit_loras
from ltx_models.lora.linear import lora_layers
from ltx_models.text_encoder.connector import load_connectors
from ltx_models.text_encoder.encode import connect, encode_prompts, named
from ltx_models.text_encoder.features import TextFeatures
from ltx_models.transformer.config import TransformerConfig
from tests.conftest import GOLDEN
from tests.models.lora.families import save
from tests.models.lora.loras import weights
from tests.models.transformer.sizes import small_transformer

VIDEO = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
SPELLINGS = (
    f"diffusion_model.{VIDEO}",
    "connectors.video_connector.transformer_blocks.0.attn1.to_q",
    f"lora_unet_{VIDEO.replace('.', '_')}",
)
SIDES = {"ltx2": 48, "ltx2.3": 64}


def adapter(folder, at: str, rows: int, columns: int) -> LoRAFile:
    draw = np.random.default_rng(0)
    A, B = draw.normal(size=(2, columns)), draw.normal(size=(rows, 2))
    return read_lora(save(folder, {f"{at}.lora_down.weight": A, f"{at}.lora_up.weight": B}, {}))


@pytest.mark.parametrize("version", SIDES)
@pytest.mark.parametrize("at", SPELLINGS)
def test_connectors_compute_with_the_adapter(version, at, tmp_path):
    checkpoint = open_checkpoint(GOLDEN / f"{version}-tiny.safetensors")
    config = checkpoint.section("transformer", TransformerConfig)
    side = SIDES[version]
    file = adapter(tmp_path, at, side, side)
    audio = config.audio_connector.dim
    features = [TextFeatures(mx.random.normal((3, side)), mx.random.normal((3, audio)))]
    adapt = partial(attach_text_path, loras=[(file, Strength(0.5))], config=config)
    (got,) = connect(checkpoint, features, dtype=mx.float32, length=128, adapt=adapt)

    connectors = load_connectors(checkpoint, dtype=mx.float32)
    layer = connectors.video.transformer_1d_blocks[0].attn1.to_q
    (update,) = file.updates().values()
    before = connectors.video(features[0].video[None], length=128)
    layer.weight = layer.weight + 0.5 * update.low_rank.B @ update.low_rank.A
    want = connectors.video(features[0].video[None], length=128)
    assert mx.allclose(got.video, want, atol=1e-4)
    assert not mx.allclose(got.video, before, atol=1e-2)
    assert mx.allclose(got.audio, connectors.audio(features[0].audio[None], length=128), atol=1e-5)


@pytest.mark.parametrize(
    ("version", "at", "rows"),
    [
        ("ltx2", "text_embedding_projection.aggregate_embed", 48),
        ("ltx2.3", "connectors.video_text_proj_in", 64),
        ("ltx2.3", "diffusion_model.text_embedding_projection.audio_aggregate_embed", 32),
    ],
)
def test_the_projection_computes_with_the_adapter(version, at, rows, tmp_path):
    checkpoint = open_checkpoint(GOLDEN / f"{version}-tiny.safetensors")
    config = checkpoint.section("transformer", TransformerConfig)
    encode = partial(encode_prompts, GOLDEN / "gemma3-tiny", checkpoint, ["a boat"], max_length=128)
    file = adapter(tmp_path, at, rows, 192)
    adapt = partial(attach_text_path, loras=[(file, Strength())], config=config)
    (plain,), (changed,) = encode(dtype=mx.float32), encode(dtype=mx.float32, adapt=adapt)
    both = version == "ltx2"  # which has one projection
    assert mx.allclose(plain.video, changed.video, atol=1e-3) == (not both and "audio" in at)
    assert mx.allclose(plain.audio, changed.audio, atol=1e-3) == (not both and "video" in at)


def test_the_transformer_counts_them_and_stays_as_it_is(tmp_path):
    file = adapter(tmp_path, SPELLINGS[0], 32, 32)
    for put in (attach, fuse):
        model = small_transformer("ltx23")
        put(model, [(file, Strength())])
        fit = fit_loras(model, [file])
        assert fit.text_path == (VIDEO,)
        assert fit.placed == fit.passed_over == fit.unmatched == ()
        assert not lora_layers(model)
        before = weights(small_transformer("ltx23"))
        assert all(mx.array_equal(value, before[key]) for key, value in weights(model).items())


def test_connector_of_other_sizes(tmp_path):
    checkpoint = open_checkpoint(GOLDEN / "ltx2.3-tiny.safetensors")
    config = checkpoint.section("transformer", TransformerConfig)
    file = adapter(tmp_path, SPELLINGS[0], 8, 8)
    modules = named(connectors=load_connectors(checkpoint, dtype=mx.float32))
    with pytest.raises(LoRAError, match=rf"{VIDEO}: \(8, 8\) in the file, \(64, 64\) in the model"):
        attach_text_path(modules, [(file, Strength())], config)
    assert not any(lora_layers(module) for module in modules.values())
