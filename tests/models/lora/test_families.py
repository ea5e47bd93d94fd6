"""Every family and spelling changes a model as the golden-checked fuse of a plain LoRA does."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from ltx_models.lora.adapters import Strength, attach, detach, fuse, set_strengths
from ltx_models.lora.files import LoRAFile, read_lora
from ltx_models.lora.linear import linears
from tests.models.lora.families import FAMILIES, LAYERS, Deltas, save
from tests.models.lora.loras import near, weights
from tests.models.transformer.sizes import small_transformer

STRENGTH = Strength(0.7, 0.4)


def layer_weights(layers=LAYERS) -> dict[str, np.ndarray]:
    found = linears(small_transformer("ltx23"))
    return {path: np.array(found[path].weight, np.float64) for path in layers}


def plain(folder: Path, deltas: Deltas) -> LoRAFile:
    """Any change of weights as a LoRA of full rank, which the golden cases cover."""
    tensors = {}
    for path, delta in deltas.items():
        at = f"diffusion_model.{path}"
        tensors |= {f"{at}.lora_A.weight": np.eye(delta.shape[1]), f"{at}.lora_B.weight": delta}
    return read_lora(save(folder, tensors, {}, name="plain"))


def assert_equal_weights(got: nn.Module, want: nn.Module, *, rtol: float = 2e-6) -> None:
    found, wanted = weights(got), weights(want)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert np.abs(np.subtract(found[key], value)).max() <= rtol * np.abs(value).max(), key


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_the_plain_lora_of_its_change(family, tmp_path):
    path, deltas = FAMILIES[family](tmp_path, layer_weights())
    file, want = read_lora(path), small_transformer("ltx23")
    fuse(want, [(plain(tmp_path, deltas), STRENGTH)])
    fused, attached = small_transformer("ltx23"), small_transformer("ltx23")
    assert sorted(fuse(fused, [(file, STRENGTH)]).fit.placed) == sorted(LAYERS)
    assert_equal_weights(fused, want)
    assert attach(attached, [(file, STRENGTH)]).unmatched == ()
    assert near(attached, want, rtol=5e-5)
    detach(attached)
    assert_equal_weights(attached, small_transformer("ltx23"), rtol=0)


def test_there_are_at_least_eighteen():
    assert len(FAMILIES) >= 18


@pytest.mark.parametrize(
    "family",
    ["kohya", "comfy dora", "dora over columns", "lycoris lokr with dora", "loha of large rank"],
)
def test_on_a_quantised_base(family, tmp_path):
    """Attached equals what is computed from the dequantised weights."""
    quantised, want = small_transformer("ltx23"), small_transformer("ltx23")
    layers, chosen = linears(want), [LAYERS[0], *LAYERS[2:6]]
    chosen = [path for path in chosen if layers[path].weight.shape[1] % 32 == 0]
    nn.quantize(quantised, group_size=32, bits=4, class_predicate=lambda path, _: path in chosen)
    for path in chosen:
        layer = linears(quantised)[path]
        packed = layer.weight, layer.scales, layer.biases
        layers[path].weight = mx.dequantize(*packed, group_size=32, bits=4)
    own = {path: np.array(layers[path].weight, np.float64) for path in LAYERS}
    path, deltas = FAMILIES[family](tmp_path, own)
    attach(quantised, [(read_lora(path), STRENGTH)])
    fuse(want, [(plain(tmp_path, deltas), STRENGTH)])
    assert near(quantised, want, rtol=5e-5)


def test_two_families_together_and_off_again(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    files, changes = [], []
    for folder, family in zip(folders, ("comfy dora", "lycoris lokr"), strict=True):
        folder.mkdir()
        path, deltas = FAMILIES[family](folder, layer_weights())
        files.append(read_lora(path))
        changes.append(deltas)
    model = small_transformer("ltx23")
    attach(model, [(file, Strength()) for file in files])
    for first, second in ((0.5, 1.0), (0.0, 0.3), (1.0, 0.0)):
        set_strengths(model, [Strength(first), Strength(second)])
        want = small_transformer("ltx23")
        both = {path: first * changes[0][path] + second * changes[1][path] for path in LAYERS}
        fuse(want, [(plain(tmp_path, both), Strength())])
        assert near(model, want, rtol=5e-5)
    detach(model)
    assert near(model, small_transformer("ltx23"), rtol=0)


def test_biases_norms_and_tables(tmp_path):
    """What files of full differences have besides weights of linear layers."""
    base = small_transformer("ltx23")
    block, at = "transformer_blocks.0", "diffusion_model."
    shapes = {
        f"{block}.attn1.to_q.bias": ("attn1.to_q.diff_b", (32,)),
        f"{block}.attn1.q_norm.weight": ("attn1.q_norm.w_norm", (32,)),
        f"{block}.audio_attn1.k_norm.weight": ("audio_attn1.k_norm.diff", (16,)),
        f"{block}.scale_shift_table": ("scale_shift_table.diff", (9, 32)),
    }
    draw = np.random.default_rng(0)
    changes = {key: (end, draw.normal(size=size)) for key, (end, size) in shapes.items()}
    tensors = {f"{at}{block}.{end}": value for end, value in changes.values()}
    file = read_lora(save(tmp_path, tensors, {}))
    fused, attached = small_transformer("ltx23"), small_transformer("ltx23")
    fuse(fused, [(file, Strength(0.5))])
    for key, (_, value) in changes.items():
        assert mx.allclose(weights(fused)[key], weights(base)[key] + 0.5 * mx.array(value)), key
    changed = [k for k, v in weights(fused).items() if not mx.array_equal(v, weights(base)[k])]
    assert sorted(changed) == sorted(changes)
    attach(attached, [(file, Strength(2.0))])
    set_strengths(attached, [Strength(0.5)])
    assert near(attached, fused)
    detach(attached)
    assert_equal_weights(attached, base, rtol=0)


def test_a_difference_of_the_bias_beside_a_lora(tmp_path):
    path, layer = LAYERS[0], linears(small_transformer("ltx23"))[LAYERS[0]]
    pair = {"lora_A.weight": np.ones((1, 32)), "lora_B.weight": np.ones((32, 1))}
    tensors = {f"diffusion_model.{path}.{end}": value for end, value in pair.items()}
    tensors[f"diffusion_model.{path}.diff_b"] = np.full(32, 3.0)
    model = small_transformer("ltx23")
    fuse(model, [(read_lora(save(tmp_path, tensors, {})), Strength())])
    assert mx.allclose(linears(model)[path].bias, layer.bias + 3)
    assert mx.allclose(linears(model)[path].weight, layer.weight + 1)
