"""Adapter files of any bytes: a load that is right, or exit code 2 and at most four lines."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings

from ltx_models.lora.adapters import Strength, attach, detach
from ltx_models.lora.files import read_lora
from ltx_models.lora.fit import own_weight
from ltx_models.lora.linear import linears, lora_layers
from tests.models.fuzz.adapters import LAYERS, NORM, TEXT, Made, adapters, change
from tests.models.fuzz.raw import refused, values
from tests.models.fuzz.settings import FUZZ, MOST_MEMORY
from tests.models.transformer.sizes import small_transformer

MODEL = small_transformer("ltx23")
SHAPES = {path: linears(MODEL)[path].weight.shape for path in LAYERS[:8]}
SHAPES |= {NORM: own_weight(MODEL, NORM).shape, TEXT: (32, 32)}
TOO_LARGE = 1e15  # its square overflows on the way


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.safetensors"


def check(made: Made, file: Path) -> None:
    file.write_bytes(made.blob)
    mx.reset_peak_memory()
    refused(lambda: _attach_and_compare(made, file))
    assert not lora_layers(MODEL)
    assert mx.get_peak_memory() - mx.get_active_memory() < MOST_MEMORY


def _attach_and_compare(made: Made, path: Path) -> None:
    lora = read_lora(path)
    lora.warnings((2, 3))
    weights = {p: np.array(layer.weight, np.float64) for p, layer in linears(MODEL).items()}
    norm = np.array(own_weight(MODEL, NORM), np.float64)
    there = values(path)
    overflows = any(np.abs(value).max(initial=0) > TOO_LARGE for value in there.values())
    fit = attach(MODEL, [(lora, Strength())])
    try:
        (names,) = fit.names
        for layer, name in names.items():
            keys = lora.entries[name].keys
            if made.meant is not None:
                assert {made.meant[key] for key in keys.values()} == {(layer, p) for p in keys}
            if overflows:
                continue
            if layer == NORM:
                delta, _ = change(keys, path, lora.metadata, norm)
                assert near(own_weight(MODEL, NORM), norm + delta)
            else:
                delta, bias = change(keys, path, lora.metadata, weights[layer])
                _compare(layer, weights[layer], delta, bias)
    finally:
        detach(MODEL)


def _compare(layer: str, weight: np.ndarray, delta: np.ndarray, bias: np.ndarray) -> None:
    attached = lora_layers(MODEL)[layer]
    x = np.random.default_rng(0).normal(size=(3, weight.shape[1])).astype(np.float32)
    wanted = x @ (weight + delta).T + bias + np.array(attached.base.bias, np.float64)
    assert near(attached(mx.array(x)), wanted), layer


def near(got: mx.array, want: np.ndarray) -> bool:
    return bool(np.abs(np.array(got) - want).max() <= 1e-4 * max(np.abs(want).max(), 1))


@settings(FUZZ, max_examples=60)
@given(made=adapters(SHAPES))
def test_some(made, file):
    check(made, file)


@pytest.mark.slow
@settings(FUZZ, max_examples=500)
@given(made=adapters(SHAPES))
def test_five_hundred(made, file):
    check(made, file)
