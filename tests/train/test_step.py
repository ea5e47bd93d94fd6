"""A step: its gradients under each transform of MLX, its state, and what it does when they fail."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from ltx_models.lora.adapters import add_trainable
from ltx_models.lora.linear import Dropout, lora_layers
from ltx_models.quantize import quantization, quantize
from ltx_models.released import LTX_2_3
from ltx_models.tiny.weights import fill
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Transformer
from ltx_train.loss import input_maker
from ltx_train.step import MicroBatch, gradients, make_step, new_state
from tests.models.transformer.sizes import SMALL, small_transformer
from tests.train.test_loss import first_given, stream

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "net.2", "caption_projection.linear_1")
WIDE = {
    "attention_head_dim": 32,
    "cross_attention_dim": 64,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 64,
    "connector_attention_head_dim": 32,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 32,
}


def adapted(version: str = "ltx23", *, streams=BOTH, targets=TARGETS) -> Transformer:
    """A small model whose adapters change something."""
    model = small_transformer(version, streams=streams)
    mx.random.seed(0)
    targets = [t for t in targets if version == "ltx2" or not t.startswith("caption")]
    add_trainable(model, rank=2, alpha=4, target_modules=targets)
    fill_adapters(model)
    return model


def fill_adapters(model: Transformer) -> None:
    layers = lora_layers(model)
    for (_, layer), key in zip(
        layers.items(), mx.random.split(mx.random.key(3), len(layers)), strict=True
    ):
        layer.lora_B = 0.1 * mx.random.normal(layer.lora_B.shape, key=key)


def micro_batch(
    model: Transformer, version: str = "ltx23", *, streams=BOTH, key=None
) -> MicroBatch:
    """Two samples, of the picture's tokens some are given."""
    batch = {name: stream(name, version=version) for name in streams}
    if "video" in batch:
        batch["video"] = batch["video"]._replace(denoise_mask=first_given("video"))
    return MicroBatch(input_maker(model)(batch), key)


def same(got: dict, expected: dict, *, rel: float) -> None:
    """Each tensor to within ``rel`` of its largest value, and none of them 0."""
    assert got.keys() == expected.keys()
    for name, wanted in expected.items():
        largest = mx.abs(wanted).max().item()
        assert largest > 0, name
        assert mx.abs(got[name] - wanted).max().item() <= rel * largest, name


@pytest.mark.parametrize("version", ["ltx2", "ltx23"])
def test_recompute_leaves_every_gradient_as_it_is(version):
    model = adapted(version)
    batch, parameters = micro_batch(model, version), new_state(model).parameters
    _, loss, expected = gradients(model)(parameters, batch)
    mx.eval(loss, expected)
    model.recompute()
    _, again, got = gradients(model)(parameters, batch)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    same(got, expected, rel=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_recompute_of_one_stream(name):
    model = adapted(streams=(name,), targets=("to_q", "net.2"))
    batch, parameters = micro_batch(model, streams=(name,)), new_state(model).parameters
    _, _, expected = gradients(model)(parameters, batch)
    model.recompute()
    _, _, got = gradients(model)(parameters, batch)
    same(got, expected, rel=1e-5)


def test_recompute_of_all_weights():
    """Also those before the blocks, whose gradients come through what a block is given."""
    model = small_transformer("ltx23")
    batch, parameters = micro_batch(model), new_state(model).parameters
    assert parameters.keys() == dict(tree_flatten(model.parameters())).keys()
    _, _, expected = gradients(model)(parameters, batch)
    model.recompute()
    _, _, got = gradients(model)(parameters, batch)
    same(got, expected, rel=2e-5)


@pytest.mark.slow  # compiling calls a C++ compiler
@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_step_is_the_plain_one(recompute):
    states = []
    for compiled in (False, True):
        model = adapted(targets=("to_q", "to_v"))
        batch = micro_batch(model)
        model.recompute(compiled and recompute)
        step = make_step(model, max_grad_norm=1e9, ema_decay=0.9, compiled=compiled)
        state = new_state(model, keep_average=True)
        for _ in range(3):
            state, told = step(state, [batch, batch], 1e-2)
        # What compiling leaves in a model cannot be computed with; the step puts the weights back.
        mx.eval(model.parameters())
        _, _, grads = gradients(model)(state.parameters, batch)
        states.append((state, told.loss.item(), told.grad_norm.item(), grads))
    (plain, *numbers, grads), (got, *again, compiled_grads) = states
    assert again == pytest.approx(numbers, rel=1e-5)
    same(compiled_grads, grads, rel=1e-4)  # Adam's quotients have widened what was 1e-5
    same(got.moments.first, plain.moments.first, rel=1e-4)
    same(got.average, plain.average, rel=1e-4)
    assert got.updates.item() == 3


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_a_compiled_function(recompute):
    model = adapted(targets=("to_q", "to_v"))
    batch, parameters = micro_batch(model), new_state(model).parameters
    _, _, expected = gradients(model)(parameters, batch)
    mx.eval(expected)
    model.recompute(recompute)
    _, _, got = mx.compile(gradients(model))(parameters, batch)
    same(got, expected, rel=1e-5)


@pytest.mark.parametrize(
    ("bits", "mode"), [(4, "affine"), (6, "affine"), (8, "affine"), (8, "mxfp8")]
)
def test_a_quantised_base_has_the_gradients_of_its_dequantised_twin(bits, mode):
    config = TransformerConfig.read({**LTX_2_3["transformer"], **SMALL, **WIDE})
    found = []
    for dequantised in (False, True):
        model = Transformer(config, streams=("video",))
        fill(model, at="quantised.")
        assert quantize(model, quantization(bits, mode=mode)) == 20
        if dequantised:
            model.update_modules(tree_map(plain, model.leaf_modules(), is_leaf=nn.Module.is_module))
        mx.random.seed(0)
        add_trainable(model, rank=2, alpha=2, target_modules=("to_q", "to_v", "net.2"))
        fill_adapters(model)
        parameters = new_state(model).parameters
        assert all(".base." not in name for name in parameters)
        own = stream("video")._replace(
            context=mx.random.normal((2, 3, 64), key=mx.random.key(5)),
        )
        batch = MicroBatch(input_maker(model)({"video": own}))
        _, loss, grads = gradients(model)(parameters, batch)
        found.append((loss.item(), grads))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    same(found[0][1], found[1][1], rel=1e-4)


@pytest.mark.parametrize("mode", ["affine", "mxfp4"])
def test_recompute_of_adapters_that_see_their_merge(mode):
    config = TransformerConfig.read({**LTX_2_3["transformer"], **SMALL, **WIDE})
    model = Transformer(config, streams=("video",))
    fill(model, at="quantised.")
    quantize(model, quantization(4 if mode == "affine" else None, mode=mode))
    add_trainable(
        model, rank=2, alpha=2, target_modules=("to_q", "to_v", "net.2"), quantization_aware=True
    )
    fill_adapters(model)
    own = stream("video")._replace(context=mx.random.normal((2, 3, 64), key=mx.random.key(5)))
    batch = MicroBatch(input_maker(model)({"video": own}))
    parameters = new_state(model).parameters
    _, loss, expected = gradients(model)(parameters, batch)
    model.recompute()
    _, again, got = gradients(model)(parameters, batch)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    same(got, expected, rel=1e-5)


def plain(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, nn.QuantizedLinear):
        return layer
    weight = mx.dequantize(
        layer.weight,
        layer.scales,
        layer.get("biases"),
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
    ).astype(mx.float32)
    twin = nn.Linear(weight.shape[1], weight.shape[0])
    twin.weight, twin.bias = weight, layer.bias
    return twin


def test_accumulated_batches_are_one_large_batch():
    model = adapted(streams=("video",))
    whole = stream("video")
    make = input_maker(model)
    halves = [
        make(
            {
                "video": whole._replace(
                    **{n: getattr(whole, n)[i : i + 1] for n in whole._fields[:-1]}
                )
            }
        )
        for i in range(2)
    ]
    step = make_step(model, max_grad_norm=1.0)
    start = new_state(model)
    one, told = step(start, [MicroBatch(make({"video": whole}))], 1e-3)
    two, parts = step(start, [MicroBatch(half) for half in halves], 1e-3)
    assert parts.loss.item() == pytest.approx(told.loss.item(), rel=1e-6)
    assert parts.grad_norm.item() == pytest.approx(told.grad_norm.item(), rel=1e-5)
    same(two.moments.first, one.moments.first, rel=1e-5)
    alone = [losses["video"].item() for losses in parts.losses]
    assert alone == pytest.approx(np.array(told.losses[0]["video"]).tolist(), rel=1e-5)


def test_a_step_that_is_not_finite_changes_nothing_but_its_count():
    model = adapted(streams=("video",))
    batch = micro_batch(model, streams=("video",))
    video = batch.inputs["video"]
    bad = MicroBatch({"video": video._replace(velocity=video.velocity * float("nan"))})
    step = make_step(model, max_grad_norm=1.0, ema_decay=0.9)
    before, _ = step(new_state(model, keep_average=True), [batch], 1e-3)
    after, told = step(before, [batch, bad], 1e-3)
    assert not np.isfinite(told.loss.item())
    assert after.skipped_in_a_row.item() == 1
    restored = after._replace(skipped_in_a_row=before.skipped_in_a_row)
    for (name, x), (_, y) in zip(tree_flatten(restored), tree_flatten(before), strict=True):
        assert mx.array_equal(x, y), name
    assert model.transformer_blocks[0].attn1.to_q.lora_B.tolist() == (
        before.parameters["transformer_blocks.0.attn1.to_q.lora_B"].tolist()
    )
    fine, _ = step(after, [batch], 1e-3)
    assert (fine.updates.item(), fine.skipped_in_a_row.item()) == (2, 0)


def test_a_new_adapter_is_dead_until_its_first_update():
    model = small_transformer("ltx23", streams=("video",))
    add_trainable(model, rank=2, alpha=2, target_modules=("to_q",))
    batch = micro_batch(model, streams=("video",))
    step = make_step(model, max_grad_norm=1.0)
    state, told = step(new_state(model), [batch], 0.0)
    assert (told.adapter_norm.item(), told.dead_share.item()) == (0, 1)
    state, told = step(state, [batch], 1e-3)
    assert told.adapter_norm.item() > 0
    assert told.dead_share.item() == 0
    norms = [np.linalg.norm(x) for n, x in state.parameters.items() if n.endswith("lora_B")]
    assert told.adapter_norm.item() == pytest.approx(np.linalg.norm(norms), rel=1e-5)


def test_the_average_is_kept_beside_the_parameters():
    model = adapted(streams=("video",))
    batch = micro_batch(model, streams=("video",))
    step, state = (
        make_step(model, max_grad_norm=1.0, ema_decay=0.5),
        new_state(model, keep_average=True),
    )
    for _ in range(4):
        before = state
        state, _ = step(state, [batch], 1e-2)
    name = "transformer_blocks.0.attn1.to_q.lora_A"
    keep = min(0.5, 5 / 14)
    expected = keep * before.average[name] + (1 - keep) * state.parameters[name]
    assert mx.allclose(state.average[name], expected, atol=1e-7)
    assert not mx.allclose(state.average[name], state.parameters[name], atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_is_the_keys_and_the_same_when_a_block_is_computed_again(recompute):
    model = adapted(streams=("video",))
    parameters = new_state(model).parameters
    keys = [None, *(mx.random.key(seed) for seed in (1, 1, 2))]
    batches = [micro_batch(model, streams=("video",), key=key) for key in keys]
    _, loss, grads = gradients(model, dropout=0.5)(parameters, batches[1])
    model.recompute(recompute)
    found = [gradients(model, dropout=0.5)(parameters, batch) for batch in batches]
    losses = [each[1].item() for each in found]
    assert losses[1] == losses[2] == pytest.approx(loss.item(), rel=1e-6)
    assert len(set(losses)) == 3
    same(found[1][2], grads, rel=1e-5)
    assert all(layer._dropout is None for layer in lora_layers(model).values())


def test_dropout_keeps_the_mean():
    model = adapted(streams=("video",), targets=("to_q",))
    layer = model.transformer_blocks[0].attn1.to_q
    x = mx.random.normal((1, layer.lora_A.shape[1]))
    full = layer(x)
    layer.set_dropout(Dropout(0.25, mx.random.key(0)))
    many = layer(mx.broadcast_to(x, (20000, x.shape[1]))).mean(axis=0)
    assert np.array(many) == pytest.approx(np.array(full[0]), abs=0.01)


def test_all_weights_are_kept_in_float32_and_used_in_the_models_type():
    model = small_transformer("ltx23", streams=("video",))
    model.update(tree_map(lambda x: x.astype(mx.bfloat16), model.parameters()))
    state = new_state(model)
    assert {x.dtype for x in state.parameters.values()} == {mx.float32}
    batch = micro_batch(model, streams=("video",))
    step = make_step(model, max_grad_norm=1.0)
    after, _ = step(state, [batch], 1e-6)
    assert {x.dtype for _, x in tree_flatten(model.parameters())} == {mx.bfloat16}
    moved = [mx.any(after.parameters[n] != x).item() for n, x in state.parameters.items()]
    assert all(moved)
