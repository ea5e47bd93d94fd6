"""A compensated layer is a quantised layer with another weight, wherever one is used."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.compensate.linear import A, B, CompensatedLinear, make_compensated
from ltx_models.lora.adapters import Strength, add_trainable, attach, detach, fuse
from ltx_models.lora.aware import AwareLoRALinear
from ltx_models.lora.linear import Adapter, LoRALinear, weight_shape
from ltx_models.lora.updates import float_weight, stored_weight
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.transformer.streamed import stream_blocks
from ltx_models.weights import WeightsError
from tests.models.converted.folders import change_tensors, golden, write_folder
from tests.models.lora.loras import PICTURE, lora_file, near, save, velocities, weights
from tests.models.transformer.sizes import small_modality, small_transformer

MODES = [quantization(4), quantization(8), quantization(mode="mxfp4"), quantization(mode="nvfp4")]
PATHS = (PICTURE, "transformer_blocks.1.ff.net.2")
RANK = 4


def drawn(seed: int, *shape: int) -> mx.array:
    return 0.1 * mx.random.normal(shape, key=mx.random.key(seed))


def layer_of(how, *, bias: bool = True) -> CompensatedLinear:
    linear = nn.Linear(128, 96, bias)
    layer = nn.QuantizedLinear.from_linear(linear, how.group_size, how.bits, how.mode)
    return filled(CompensatedLinear(layer, RANK))


def filled(layer: CompensatedLinear, seed: int = 0) -> CompensatedLinear:
    layer.compensation_A = drawn(seed, *layer.compensation_A.shape)
    layer.compensation_B = drawn(seed + 1, *layer.compensation_B.shape)
    return layer


def compensated_model():
    """A small LTX-2.3 with two compensated layers, the others in float."""
    model = small_transformer("ltx23")
    nn.quantize(model, 32, 8, class_predicate=lambda path, _: path in PATHS)
    make_compensated(model, dict.fromkeys(PATHS, RANK))
    layers = dict(model.named_modules())
    for seed, path in enumerate(PATHS):
        filled(layers[path], 10 * seed)
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("how", MODES, ids=str)
def test_it_multiplies_by_its_effective_weight(how, bias):
    layer, x = layer_of(how, bias=bias), drawn(5, 3, 128)
    product = layer.compensation_B @ layer.compensation_A
    assert mx.allclose(float_weight(layer) - stored_weight(layer), product, atol=1e-6)
    wanted = x @ float_weight(layer).T + (layer.bias if bias else 0)
    assert mx.abs(layer(x) - wanted).max() <= 1e-5 * mx.abs(wanted).max()
    assert weight_shape(layer) == (96, 128)


def test_it_computes_in_the_type_of_its_input():
    layer = layer_of(quantization(4))
    for name in ("scales", "biases", "bias"):
        layer[name] = layer[name].astype(mx.bfloat16)
    assert layer(drawn(5, 3, 128).astype(mx.bfloat16)).dtype == mx.bfloat16


def test_nothing_of_it_is_trained():
    layer = layer_of(quantization(4))
    assert layer.trainable_parameters() == {}
    assert {A, B} <= layer.parameters().keys()


def test_what_attached_adds_is_the_update(tmp_path):
    """In a file with DoRA the norms are those of the effective weight."""
    model = compensated_model()
    before = velocities(model)
    layer = dict(model.named_modules())[PICTURE]
    files = [lora_file(tmp_path, 0, paths=(PICTURE,))]
    rows = weight_shape(layer)[0]
    files.append(save(tmp_path / "dora.safetensors", with_magnitude(files[0], rows)))
    for file in files:
        attach(model, [(file, Strength(0.7))])
        wrapped = dict(model.named_modules())[PICTURE]
        x = drawn(3, 2, weight_shape(layer)[1])
        low_rank = file.updates(file.entries)[next(iter(file.entries))]
        change = low_rank.low_rank.scale * low_rank.low_rank.B @ low_rank.low_rank.A
        whole = float_weight(layer) + change
        if low_rank.magnitude is not None:
            whole = low_rank.magnitude * whole / mx.linalg.norm(whole, axis=1, keepdims=True)
        wanted = x @ (0.3 * float_weight(layer) + 0.7 * whole).T + layer.bias
        assert mx.abs(wrapped(x) - wanted).max() <= 1e-5 * mx.abs(wanted).max()
        detach(model)
    assert all(mx.array_equal(a, b) for a, b in zip(velocities(model), before, strict=True))


def with_magnitude(file, rows: int) -> dict[str, mx.array]:
    tensors = mx.load(str(file.path))
    tensors[f"diffusion_model.{PICTURE}.dora_scale"] = mx.random.uniform(0.5, 2, (rows, 1))
    return tensors


def test_training_changes_the_lora_alone():
    model = compensated_model()
    frozen = weights(model)
    paths = add_trainable(model, rank=2, alpha=2, target_modules=["attn1.to_q", "ff.net.2"])
    assert set(PATHS) <= set(paths)
    model.recompute()
    video, audio = (small_modality(model, name) for name in ("video", "audio"))

    def loss(model):
        return sum(velocity.square().mean() for velocity in model(video, audio))

    _, gradients = nn.value_and_grad(model, loss)(model)
    names = [name for name, _ in tree_flatten(gradients)]
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B"}
    found = dict(tree_flatten(gradients))
    assert all(mx.abs(found[f"{path}.lora_B"]).max() > 0 for path in PATHS)
    now = {name.replace(".base.", "."): value for name, value in weights(model).items()}
    assert all(mx.array_equal(now[name], value) for name, value in frozen.items())


def test_a_lora_is_fused_into_what_is_stored_and_the_adapter_stays(tmp_path):
    model, attached = compensated_model(), compensated_model()
    file = lora_file(tmp_path, 0, paths=PATHS)
    layers, before = dict(model.named_modules()), weights(model)
    attach(attached, [(file, Strength(1.0))])
    fuse(model, [(file, Strength(1.0))])
    for path in PATHS:
        assert isinstance(layers[path], CompensatedLinear)
        assert mx.array_equal(before[f"{path}.{A}"], layers[path].compensation_A)
        assert not mx.array_equal(before[f"{path}.weight"], layers[path].weight)
    assert near(model, attached, rtol=0.02)  # of 8 bits


def test_an_adapter_that_sees_its_merge_sees_it_beside_the_compensation():
    base, x = layer_of(quantization(4)), drawn(5, 3, 128)
    aware = AwareLoRALinear(base, {0: Adapter(drawn(6, 2, 128), drawn(7, 96, 2), 1.0)})
    plain = nn.QuantizedLinear(128, 96, True, 32, 4)
    plain.update({name: base[name] for name in ("weight", "scales", "biases", "bias")})
    without = AwareLoRALinear(plain, {0: aware_adapter(aware)})
    added = x @ base.compensation_A.T @ base.compensation_B.T
    assert mx.allclose(aware(x) - without(x), added, atol=1e-5)


def aware_adapter(layer: LoRALinear) -> Adapter:
    return Adapter(layer.lora_A, layer.lora_B, 1.0)


def written(folder) -> Checkpoint:
    """The golden LTX-2.3 as a folder at 4 bits, each layer with a random adapter of rank 4."""
    open_checkpoint(write_folder(folder, golden("ltx2.3-tiny"), quantization(4)))

    def add(tensors):
        for number, name in enumerate(sorted(tensors)):
            if name.endswith(".scales"):
                path, (rows, groups) = name.removesuffix(".scales"), tensors[name].shape
                tensors[f"{path}.{A}"] = drawn(number, RANK, 32 * groups).astype(mx.bfloat16)
                tensors[f"{path}.{B}"] = drawn(number + 1, rows, RANK).astype(mx.bfloat16)

    change_tensors(folder / "transformer", add)
    return open_checkpoint(folder)


def test_a_folder_is_loaded_with_its_adapters(tmp_path):
    checkpoint = written(tmp_path)
    model = load_transformer(checkpoint, dtype=mx.float32)
    plain = load_transformer(golden("ltx2.3-tiny"), dtype=mx.float32)
    quantize(plain, quantization(4))
    wanted = {path: x for path, x in model.named_modules() if isinstance(x, CompensatedLinear)}
    assert checkpoint.stored == {"affine 4 bit, groups of 32, compensated"}
    assert wanted.keys() == checkpoint.quantization.keys()
    assert not near(model, plain)
    for layer in wanted.values():
        layer.compensation_A = mx.zeros_like(layer.compensation_A)
    assert near(model, plain)


def test_it_is_streamed_and_one_stream_of_it_is_loaded(tmp_path):
    checkpoint = written(tmp_path)
    streamed, resident = (load_transformer(checkpoint, dtype=mx.float32) for _ in range(2))
    stream_blocks(streamed, checkpoint)
    assert near(streamed, resident)
    assert near(streamed, resident)
    picture = load_transformer(checkpoint, dtype=mx.float32, streams=("video",))
    layers = [x for x in picture.modules() if isinstance(x, CompensatedLinear)]
    assert 0 < len(layers) < len(checkpoint.quantization)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors, key: tensors.pop(f"{key}.{B}"), "missing: .*to_q.compensation_B"),
        (lambda tensors, key: tensors.pop(f"{key}.{A}"), "unknown: .*to_q.compensation_B"),
        (
            lambda tensors, key: tensors.update({f"{key}.{A}": mx.zeros((RANK, 7))}),
            r"to_q.compensation_A: \(4, 7\) in the file",
        ),
        (
            lambda tensors, key: tensors.update({f"{key}.{A}": mx.zeros((7,))}),
            "unknown: .*to_q.compensation_A",
        ),
        (
            lambda tensors, key: tensors.update({f"proj_out.{A}": mx.zeros((7, 7))}),
            "unknown: .*proj_out.compensation_A",
        ),
    ],
)
def test_a_damaged_adapter_is_named(tmp_path, change, named):
    written(tmp_path)
    change_tensors(tmp_path / "transformer", lambda tensors: change(tensors, PICTURE))
    with pytest.raises(WeightsError, match=named):
        load_transformer(open_checkpoint(tmp_path), dtype=mx.float32)
