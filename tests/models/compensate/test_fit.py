"""The adapter beside a quantised weight takes off as much of the error as its rank can."""

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.compensate.fit import compensate, quantised, shapes
from ltx_models.compensate.linear import A, B
from ltx_models.quantize import Quantization, quantization
from tests.bench.compensation import Case, drawn_case, error, plain

MODES = [
    quantization(2),
    quantization(4),
    quantization(8),
    *(quantization(mode=mode) for mode in ("mxfp4", "mxfp8", "nvfp4")),
]


def test_rank_32_takes_30_percent_off_the_error_of_4_bits():
    """Acceptance: D 1024, weights Gaussian of seed 0, scales of input channels lognormal(1)."""
    case, how = drawn_case(1024), quantization(4)
    before, after = error(case, plain(case, how)), error(case, fitted(case, how, 32))
    assert after < 0.7 * before


def fitted(case: Case, how: Quantization, rank: int, **kwargs) -> mx.array:
    return compensate(case.weight, case.calibration, how, rank, **kwargs).floats(how)


@pytest.mark.parametrize("how", MODES, ids=str)
def test_it_helps_in_every_mode_and_more_with_every_round(how):
    case = drawn_case(256, rows=192)
    found = [error(case, fitted(case, how, 8, rounds=count)) for count in (0, 2, 8)]
    assert found[2] < found[1] < found[0] < 0.9 * error(case, plain(case, how))


@pytest.mark.parametrize("num_rows", [40, 600])  # fewer and more than channels
def test_without_rounds_no_adapter_of_its_rank_is_better(num_rows):
    """The least error is that of the whole decomposition of what the residual gives."""
    case, how, rank = drawn_case(128, rows=96), quantization(4), 6
    inputs = case.calibration[:num_rows]
    found = compensate(case.weight, inputs, how, rank, rounds=0)
    residual = np.array(case.weight - plain(case, how), np.float64)
    x = np.array(inputs, np.float64)
    product = np.array(found.B.astype(mx.float32)) @ np.array(found.A.astype(mx.float32))
    left = np.linalg.norm(x @ (residual - product).T)
    values = np.linalg.svd(x @ residual.T, compute_uv=False)
    assert left <= 1.01 * np.linalg.norm(values[rank:])


def test_what_is_stored_fits_its_shapes_and_is_the_same_again():
    case, how = drawn_case(64, rows=8), quantization(4)
    for rank, kept in ((4, 4), (100, 8)):
        first, second = (tensors(case, how, rank) for _ in range(2))
        assert list(first) == ["weight", "scales", "biases", A, B]
        assert {name: first[name].shape for name in (A, B)} == shapes((8, 64), rank)
        assert first[A].shape == (kept, 64)
        assert all(mx.array_equal(first[name], second[name]) for name in first)
        assert first[A].dtype == first["scales"].dtype == mx.bfloat16
    assert list(tensors(case, quantization(mode="nvfp4"), 4)) == ["weight", "scales", A, B]


def tensors(case: Case, how: Quantization, rank: int) -> dict[str, mx.array]:
    return compensate(case.weight, case.calibration, how, rank).tensors()


def test_a_layer_that_loses_nothing_or_sees_nothing_has_finite_adapters():
    how = quantization(4)
    exact = mx.tile(mx.arange(16, dtype=mx.float32), (32, 4))
    assert mx.array_equal(compensate(exact, mx.ones((9, 64)), how, 3).floats(how), exact)
    case = drawn_case(64)
    found = compensate(case.weight, mx.zeros((9, 64)), how, 3)
    assert all(mx.isfinite(value).all() for value in (found.A, found.B))


def test_scales_have_the_type_of_the_adapters():
    packed = quantised(mx.ones((32, 64), mx.float32), quantization(4))
    assert [each.dtype for each in packed] == [mx.uint32, mx.bfloat16, mx.bfloat16]
