"""What of a checkpoint a run loads, and what of that it trains."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.lora.aware import AwareLoRALinear
from ltx_models.lora.linear import lora_layers
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import BOTH, Transformer
from ltx_train.config import TrainConfig, read_config
from ltx_train.loss import StreamBatch, input_maker
from ltx_train.model import load_trainable, start
from ltx_train.step import MicroBatch, gradients
from tests.models.transformer.sizes import POSITIONS
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


def test_an_adapter_that_sees_its_merge(checkpoint, configured):
    aware = "lora.quantization_aware=true"
    model, modules = load_trainable(
        checkpoint, configured(aware, "acceleration.quantization=nvfp4")
    )
    layers = lora_layers(model)
    assert {type(layers[path]) for path in modules} == {AwareLoRALinear}
    assert {layer.base.mode for layer in layers.values()} == {"nvfp4"}
    with pytest.raises(UserError, match=r"Set acceleration\.quantization, as affine-4bit"):
        load_trainable(checkpoint, configured(aware))


def test_all_weights(checkpoint, configured):
    config = configured("model.training_mode=full", "lora=null", "optimization.ema_decay=0.9")
    model, modules = load_trainable(checkpoint, config)
    assert modules == []
    step, state = start(model, config)
    assert state.parameters.keys() == dict(tree_flatten(model.parameters())).keys()
    assert state.average.keys() == state.parameters.keys()
    assert callable(step)


@pytest.mark.parametrize("given", ["video", "audio"])
def test_all_weights_that_are_trained_get_a_gradient(checkpoint, configured, given):
    streams = "video: {}, audio: {}".replace(f"{given}: {{}}", f"{given}: {{is_generated: false}}")
    config = configured(
        "model.training_mode=full",
        "lora=null",
        f"training_strategy={{name: flexible, {streams}}}",
    )
    model, _ = load_trainable(checkpoint, config)
    _, state = start(model, config)
    batch = {name: drawn(model, name, given=name == given) for name in BOTH}
    inputs = MicroBatch(input_maker(model)(batch))
    _, _, grads = gradients(model)(state.parameters, inputs)
    dead = [name for name, grad in grads.items() if not mx.any(grad)]
    assert dead == []
    kept = len(dict(tree_flatten(model.parameters()))) - len(grads)
    assert 0 < kept < 0.05 * len(grads)


def drawn(model: Transformer, name: StreamName, *, given: bool) -> StreamBatch:
    config = model.config
    video = name == "video"
    channels = config.in_channels if video else config.audio_in_channels
    width = config.cross_attention_dim if video else config.audio_cross_attention_dim
    keys = mx.random.split(mx.random.key(0), 3)
    positions = POSITIONS[name]
    shape = (1, positions.shape[2], channels)
    return StreamBatch(
        x_0=mx.random.normal(shape, key=keys[0]),
        noise=None if given else mx.random.normal(shape, key=keys[1]),
        sigma=np.array([0.0 if given else 0.6], np.float32),
        denoise_mask=np.full(shape[:2], 0.0 if given else 1.0, np.float32),
        positions=positions,
        context=mx.random.normal((1, 3, width), key=keys[2]),
    )
