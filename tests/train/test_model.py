"""What of a checkpoint a run loads, and what of that it trains."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.lora.linear import lora_layers
from ltx_train.config import TrainConfig, read_config
from ltx_train.model import load_trainable, start
from tests.train.config.conftest import VALID

FIRST = "transformer_blocks.0"


@pytest.fixture
def checkpoint(tiny):
    return open_checkpoint(find_model("tiny", variant="dev").checkpoint)


@pytest.fixture
def configured(tmp_path):
    def configured(*overrides: str) -> TrainConfig:
        path = tmp_path / "lora.yaml"
        path.write_text(VALID)
        return read_config(path, overrides)

    return configured


@pytest.mark.parametrize(
    ("strategy", "there", "gone"),
    [
        ("video: {}", "attn1.to_q", "audio_attn1.to_q"),
        ("audio: {}", "audio_attn1.to_q", "attn1.to_q"),
        ("video: {is_generated: false}, audio: {}", "audio_to_video_attn.to_q", None),
    ],
)
def test_streams_that_a_run_has_not_are_not_loaded(checkpoint, configured, strategy, there, gone):
    config = configured(f"training_strategy={{name: flexible, {strategy}}}")
    model, modules = load_trainable(checkpoint, config)
    assert f"{FIRST}.{there}" in modules
    assert f"{FIRST}.{gone}" not in modules
    trained = dict(tree_flatten(model.trainable_parameters()))
    assert len(trained) == 2 * len(modules)
    assert {x.dtype for x in trained.values()} == {mx.float32}


def test_a_target_of_a_stream_that_is_not_there_is_an_error(checkpoint, configured):
    with pytest.raises(UserError, match=r"no linear layer is named 'audio_attn1.to_q'"):
        load_trainable(checkpoint, configured("lora.target_modules=[to_q, audio_attn1.to_q]"))


def test_the_seed_decides_the_adapter(checkpoint, configured):
    def first_factor(*overrides: str) -> mx.array:
        model, modules = load_trainable(checkpoint, configured(*overrides))
        return lora_layers(model)[modules[0]].lora_A

    assert mx.array_equal(first_factor(), first_factor())
    assert not mx.allclose(first_factor(), first_factor("seed=1"))


def test_a_quantised_base_under_an_adapter(checkpoint, configured):
    config = configured("acceleration.quantization=affine-4bit")
    model, modules = load_trainable(checkpoint, config)
    layers = lora_layers(model)
    assert all(isinstance(layers[path].base, nn.QuantizedLinear) for path in modules)
    assert all("lora_" in name for name, _ in tree_flatten(model.trainable_parameters()))


def test_all_weights(checkpoint, configured):
    config = configured("model.training_mode=full", "lora=null", "optimization.ema_decay=0.9")
    model, modules = load_trainable(checkpoint, config)
    assert modules == []
    step, state = start(model, config)
    assert state.parameters.keys() == dict(tree_flatten(model.parameters())).keys()
    assert state.average.keys() == state.parameters.keys()
    assert callable(step)
