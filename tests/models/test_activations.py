import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from ltx_models.activations import gelu, silu

X = mx.concatenate([mx.linspace(-12, 12, 4001), mx.array([-1e4, 1e4, 0.0])])


def exact_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def exact_silu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(x / 2))


BOTH = pytest.mark.parametrize(
    ("ours", "exact", "theirs"),
    [(gelu, exact_gelu, nn.gelu_approx), (silu, exact_silu, nn.silu)],
    ids=["gelu", "silu"],
)


@BOTH
def test_equals_the_formula_in_float32(ours, exact, theirs):
    wanted = exact(np.array(X, np.float64))
    # Where it is almost 0, x is multiplied by what rounding leaves of 1 - 1.
    allowed = 2e-6 + 1e-6 * np.abs(np.array(X))
    assert (np.abs(np.array(ours(X)) - wanted) < allowed).all()


@BOTH
def test_gradient_is_finite_and_equals_mlx_s(ours, exact, theirs):
    got = mx.grad(lambda x: ours(x).sum())(X)
    wanted = mx.grad(lambda x: theirs(x).sum())(X)
    assert mx.allclose(got, wanted, atol=1e-5)


@BOTH
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_keeps_the_type(ours, exact, theirs, dtype):
    assert ours(X.astype(dtype)).dtype == dtype
