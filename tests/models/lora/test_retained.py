"""Fusing into quantised weights: what arrives is measured, and too little is refused."""

import re
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from ltx_models.lora.adapters import Strength, attach, fuse
from ltx_models.lora.files import LoRAError, LoRAFile
from ltx_models.lora.linear import lora_layers
from ltx_models.lora.retained import Retained, check_retained, in_all, retained, retained_lines
from ltx_models.lora.updates import float_weight
from tests.models.lora.loras import PICTURE, SOUND, near, save, weights
from tests.models.transformer.sizes import small_transformer

MODES = [
    *(("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
    ("mxfp4", 4, 32),
    ("mxfp8", 8, 32),
    ("nvfp4", 4, 16),
]
QUANTISED = (PICTURE, "transformer_blocks.1.ff.net.2")
PATHS = (*QUANTISED, SOUND)


def quantised_model(**how):
    """A small LTX-2.3 of which two layers are quantised; the third of PATHS is not."""
    model = small_transformer("ltx23")
    how = how or {"group_size": 32, "bits": 8}
    nn.quantize(model, class_predicate=lambda path, _: path in QUANTISED, **how)
    return model


def lora(folder: Path, size: float, *, paths=PATHS, also=None) -> LoRAFile:
    """A LoRA whose update of each layer has numbers of about ``size``."""
    draw, tensors = np.random.default_rng(5), dict(also or {})
    layers = dict(small_transformer("ltx23").named_modules())
    for path in paths:
        out, in_dims = layers[path].weight.shape
        tensors[f"{path}.lora_A.weight"] = draw.normal(size=(3, in_dims))
        tensors[f"{path}.lora_B.weight"] = size * draw.normal(size=(out, 3))
    return save(folder / "lora.safetensors", tensors)


def by_hand(layer: nn.QuantizedLinear, update: np.ndarray) -> tuple[float, float]:
    """Kept and error by their formulas, in float64."""
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    old = mx.dequantize(layer.weight, layer.scales, layer.get("biases"), **how)
    old = np.array(old.astype(mx.float32), np.float64)
    new = mx.dequantize(*mx.quantize(mx.array(old + update, mx.float32), **how), **how)
    got = np.array(new.astype(mx.float32), np.float64) - old
    kept = (got * update).sum() / (update**2).sum()
    return kept, np.linalg.norm(got - update) / np.linalg.norm(update)


@pytest.mark.parametrize(("mode", "bits", "group_size"), MODES)
def test_kept_and_error_are_their_formulas(mode, bits, group_size):
    layer = nn.Linear(256, 48).to_quantized(group_size=group_size, bits=bits, mode=mode)
    draw = np.random.default_rng(0)
    for size in (0.002, 0.1):
        update = size * draw.normal(size=(48, 2)) @ draw.normal(size=(2, 256))
        before = [mx.array(value) for value in (layer.weight, layer.scales)]
        found = retained(layer, mx.array(update, mx.float32))
        assert found is not None
        assert (found.kept, found.error) == pytest.approx(by_hand(layer, update), rel=1e-3)
        assert mx.array_equal(layer.weight, before[0])
        assert mx.array_equal(layer.scales, before[1])
    assert retained(layer, mx.zeros((48, 256))) is None


@pytest.mark.parametrize(("mode", "bits", "group_size"), [m for m in MODES if m[2] <= 32])
def test_a_large_update_arrives_and_a_tiny_one_is_refused(mode, bits, group_size, tmp_path):
    how = {"mode": mode, "bits": bits, "group_size": group_size}
    model = quantised_model(**how)
    large = [(lora(tmp_path, 3.0), Strength(0.7))]
    found = fuse(model, large).retained
    assert found.keys() == set(QUANTISED)
    assert all(kept.kept > 0.9 for kept in found.values())
    want = quantised_model(**how)
    attach(want, large)
    for path in QUANTISED:
        # What was said is what is there now.
        layer, old = dict(model.named_modules())[path], lora_layers(want)[path].base
        own = lora_layers(want)[path]
        update = 0.7 * own.lora_B @ own.lora_A
        got = float_weight(layer) - float_weight(old)
        kept = ((got * update).sum() / update.square().sum()).item()
        assert kept == pytest.approx(found[path].kept, rel=1e-3)

    model = quantised_model(**how)
    before = weights(model)
    with pytest.raises(LoRAError):
        fuse(model, [(lora(tmp_path, 1e-4), Strength())])
    after = weights(model)
    assert all(after[key] is value for key, value in before.items())


def test_the_refusal_says_how_to_go_on(tmp_path):
    model = quantised_model(group_size=32, bits=4)
    norm = "transformer_blocks.0.attn1.q_norm"
    also = {f"{norm}.diff": np.ones(32)}
    loras = [(lora(tmp_path, 1e-4, also=also), Strength())]
    before = weights(model)
    with pytest.raises(LoRAError) as caught:
        fuse(model, loras)
    said = str(caught.value)
    assert re.fullmatch(
        r"LoRA fused into 2 quantised layers: kept -?\d\.\d\d, error \d+\.\d\d in all; at least "
        r"0\.9 and at most 0\.5 would do\.\nthe worst layer is transformer_blocks.*: kept .*\n"
        r"Attached \(--lora-mode attach\) all of it is kept; --lora-fuse-anyway goes on",
        said,
    )
    assert all(weights(model)[key] is value for key, value in before.items())

    found = fuse(model, loras, anyway=True).retained
    assert retained_lines(found)[0].startswith(said.split(" in all")[0])
    changed = {k for k, value in weights(model).items() if not mx.array_equal(value, before[k])}
    assert {f"{SOUND}.weight", f"{norm}.weight"} <= changed
    assert all(key.startswith(QUANTISED) for key in changed - {f"{SOUND}.weight", f"{norm}.weight"})


def test_what_is_not_changed_stays_bit_for_bit(tmp_path):
    """A layer whose update is nothing, and one whose bias alone is changed."""
    model, wanted = quantised_model(), quantised_model()
    tensors = {f"{PICTURE}.lora_A.weight": np.ones((2, 32)), f"{QUANTISED[1]}.diff_b": np.ones(32)}
    tensors[f"{PICTURE}.lora_B.weight"] = np.zeros((32, 2))
    file = save(tmp_path / "a.safetensors", tensors)
    assert fuse(model, [(file, Strength(0.5))]).retained == {}
    before = weights(wanted)
    changed = {k for k, value in weights(model).items() if not mx.array_equal(value, before[k])}
    assert changed == {f"{QUANTISED[1]}.bias"}
    attach(wanted, [(file, Strength(0.5))])
    assert near(model, wanted)


def test_types_stay_as_they_are(tmp_path):
    model = small_transformer("ltx23")
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=32, bits=8, class_predicate=lambda path, _: path in QUANTISED)
    before = {key: value.dtype for key, value in weights(model).items()}
    fuse(model, [(lora(tmp_path, 1.0), Strength())])
    assert {key: value.dtype for key, value in weights(model).items()} == before


def test_several_layers_are_summed_and_not_averaged():
    whole = in_all([Retained(1.0, 0.0, 1.0), Retained(0.0, 99.0, 99.0)])
    assert whole.kept == 0.01
    assert whole.error == pytest.approx(0.99**0.5)
    assert retained_lines({}) == []
    check_retained({"a": Retained(0.95, 0.2, 1.0)})
    for too_little in (Retained(0.89, 0.0, 1.0), Retained(1.0, 0.26, 1.0)):
        with pytest.raises(LoRAError, match="the worst layer is a"):
            check_retained({"a": too_little})
