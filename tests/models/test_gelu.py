import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from ltx_models.gelu import gelu

X = mx.concatenate([mx.linspace(-12, 12, 4001), mx.array([-1e4, 1e4, 0.0])])


def exact(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_equals_the_formula_in_float32():
    wanted = exact(np.array(X, np.float64))
    assert np.allclose(np.array(gelu(X)), wanted, rtol=1e-6, atol=1.5e-6)


def test_gradient():
    got = mx.grad(lambda x: gelu(x).sum())(X)
    wanted = mx.grad(lambda x: nn.gelu_approx(x).sum())(X)
    assert mx.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_keeps_the_type(dtype):
    assert gelu(X.astype(dtype)).dtype == dtype
