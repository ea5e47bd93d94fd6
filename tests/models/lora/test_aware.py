"""Adapters that see themselves fused into a quantised base, in training."""

import re

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength, add_trainable, fuse, lora_tensors
from ltx_models.lora.aware import AwareLoRALinear, requantised
from ltx_models.lora.files import read_lora
from ltx_models.lora.linear import Adapter, Dropout, LoRALinear, lora_layers
from ltx_models.lora.updates import dequantised, float_weight
from ltx_models.quantize import Quantization, quantization
from ltx_models.weights import save_tensors
from tests.models.lora.loras import PICTURE, near
from tests.models.transformer.sizes import small_transformer

AFFINE = [quantization(bits) for bits in (2, 3, 4, 5, 6, 8)]
FLOATS = [quantization(mode=mode) for mode in ("mxfp4", "mxfp8", "nvfp4")]
EVERY = [*AFFINE, *FLOATS]
IN, OUT, SCALE = 128, 96, 2.0


def drawn(seed: int, *shape: int) -> mx.array:
    return 0.1 * mx.random.normal(shape, key=mx.random.key(seed))


def quantised_layer(how: Quantization, *, dtype: mx.Dtype = mx.float32) -> nn.QuantizedLinear:
    layer = nn.Linear(IN, OUT)
    layer.weight, layer.bias = drawn(0, OUT, IN).astype(dtype), drawn(1, OUT).astype(dtype)
    return nn.QuantizedLinear.from_linear(layer, how.group_size, how.bits, how.mode)


def aware_layer(how: Quantization, *, dtype: mx.Dtype = mx.float32) -> AwareLoRALinear:
    adapter = Adapter(drawn(2, 4, IN), drawn(3, OUT, 4), SCALE)
    layer = AwareLoRALinear(quantised_layer(how, dtype=dtype), {0: adapter})
    layer.unfreeze(recurse=False, keys=["lora_A", "lora_B"])
    return layer


def off(got: mx.array, wanted: mx.array) -> float:
    return (mx.abs(got - wanted).max() / mx.abs(wanted).max()).item()


@pytest.mark.parametrize("how", EVERY, ids=str)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_it_gives_bit_by_bit_what_a_fused_layer_gives(how, dtype):
    layer, x = aware_layer(how, dtype=dtype), drawn(4, 5, IN).astype(dtype)
    shipped = quantised_layer(how, dtype=dtype)
    merged = mx.addmm(float_weight(shipped), SCALE * layer.lora_B, layer.lora_A)
    shipped.weight, shipped.scales, shipped.biases = requantised(shipped, merged)
    assert mx.array_equal(layer(x), shipped(x))
    assert layer(x).dtype == dtype
    assert not mx.array_equal(layer(x), layer.base(x))


def straight_through(layer: AwareLoRALinear, tensors: dict[str, mx.array], x: mx.array):
    """Written as the definition has it: W' = W + D with the value of Q(W + D)."""
    merged = float_weight(layer.base) + SCALE * tensors["lora_B"] @ tensors["lora_A"]
    stored = dequantised(layer.base, *requantised(layer.base, mx.stop_gradient(merged)))
    return x @ (merged + mx.stop_gradient(stored - merged)).T + layer.base.bias


@pytest.mark.parametrize("how", EVERY, ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_a_straight_through_estimator(how, recompute):
    layer, x, weights = aware_layer(how), drawn(4, 5, IN), drawn(5, 5, OUT)
    call = nn.utils.checkpoint(layer) if recompute else layer

    def loss(tensors, x):
        layer.update(tensors)
        return (call(x) * weights).sum()

    def wanted(tensors, x):
        return (straight_through(layer, tensors, x) * weights).sum()

    tensors = {"lora_A": layer.lora_A, "lora_B": layer.lora_B}
    got, of_x = mx.grad(loss, argnums=(0, 1))(tensors, x)
    expected, expected_of_x = mx.grad(wanted, argnums=(0, 1))(tensors, x)
    assert off(of_x, expected_of_x) < 1e-5
    for name, gradient in expected.items():
        assert off(got[name], gradient) < 1e-5
    layer.update(tensors)
    assert dict(tree_flatten(layer.trainable_parameters())).keys() == tensors.keys()


@pytest.mark.slow  # compiling calls a C++ compiler
def test_compiled_it_gives_the_same():
    layer, x = aware_layer(AFFINE[2]), drawn(4, 5, IN)
    tensors = {"lora_A": layer.lora_A, "lora_B": layer.lora_B}

    def loss(tensors, x):
        layer.update(tensors)
        return layer(x).square().sum()

    value, gradients = mx.value_and_grad(loss)(tensors, x)
    compiled, again = mx.compile(mx.value_and_grad(loss))(tensors, x)
    assert compiled.item() == pytest.approx(value.item(), rel=1e-6)
    for name, gradient in gradients.items():
        assert off(again[name], gradient) < 1e-5


@pytest.mark.parametrize("how", EVERY, ids=str)
def test_storing_a_stored_weight_again_moves_affine_grids_a_little(how):
    """As docs/numerics.md says; mxfp4 and mxfp8 are exact, and nvfp4 but for a few groups."""
    layer = quantised_layer(how)
    outliers = drawn(6, OUT, IN) * mx.exp(drawn(7, IN) * 10)
    layer.weight, layer.scales, layer.biases = requantised(layer, outliers)
    own = float_weight(layer)
    again = dequantised(layer, *requantised(layer, own))
    moved = (mx.linalg.norm(again - own) / mx.linalg.norm(own)).item()
    if how.mode == "affine":
        assert 0 < moved < mx.linalg.norm(own - outliers).item() / mx.linalg.norm(own).item() / 2
    else:
        assert moved <= (1e-3 if how.mode == "nvfp4" else 0)


def test_strength_0_is_the_base():
    layer, x = aware_layer(AFFINE[2]), drawn(4, 5, IN)
    layer.set_strengths([0.0])
    assert mx.array_equal(layer(x), layer.base(x))


def test_it_has_no_dropout():
    layer = aware_layer(AFFINE[2])
    layer.set_dropout(None)
    with pytest.raises(ValueError, match="an adapter that sees its merge has no dropout"):
        layer.set_dropout(Dropout(0.1, mx.random.key(0)))


def quantised_model(paths=(PICTURE,)):
    model = small_transformer("ltx23")
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, _: path in paths)
    return model


def test_quantised_layers_see_their_merge_and_float_ones_have_none():
    model = quantised_model()
    paths = add_trainable(
        model, rank=4, alpha=4, target_modules=["attn1.to_q"], quantization_aware=True
    )
    kinds = {path: type(layer) for path, layer in lora_layers(model).items()}
    assert kinds == {p: AwareLoRALinear if p == PICTURE else LoRALinear for p in paths}
    assert len(paths) > 1


def test_the_model_in_training_is_the_one_that_is_shipped(tmp_path):
    model, shipped, path = quantised_model(), quantised_model(), tmp_path / "a.safetensors"
    add_trainable(model, rank=4, alpha=8, target_modules=["attn1.to_q"], quantization_aware=True)
    for number, layer in enumerate(lora_layers(model).values()):
        layer.lora_B = drawn(number, *layer.lora_B.shape)
    save_tensors(path, lora_tensors(model), {})
    assert not near(model, shipped, rtol=1e-5)
    fuse(shipped, [(read_lora(path), Strength())], anyway=True)
    assert near(model, shipped, rtol=1e-5)


def test_a_base_that_is_not_quantised():
    said = (
        "lora.quantization_aware: transformer_blocks.0.attn1.to_q is not quantised, nor is another "
        "layer of lora.target_modules.\nSet acceleration.quantization, as affine-4bit, or leave"
    )
    model = small_transformer("ltx23")
    with pytest.raises(UserError, match=re.escape(said)):
        add_trainable(
            model, rank=4, alpha=4, target_modules=["attn1.to_q"], quantization_aware=True
        )
    assert not lora_layers(model)
