"""GELU (tanh form) and SiLU, in a way that a CPU computes fast.

MLX's tanh and sigmoid take 13 ns an element on a CPU, which is a good part of the matrix product or
convolution before them; a quotient of polynomials takes a quarter of that (docs/experiments.md).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import mlx.core as mx
import mlx.nn as nn

# tanh(x) = x P(x^2) / Q(x^2) to float32's precision for |x| < LIMIT, beyond which it is 1: the
# rational minimax approximation that Eigen and XLA use.
CUBIC = 0.044715  # GELU's, in its tanh form
LIMIT = 7.90531110763549805
P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def gelu(x: mx.array) -> mx.array:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), of any shape, in the type of x."""
    if not _on_cpu(x):
        return nn.gelu_approx(x)
    return x * (_gate(x) if _exporting else cast(mx.array, _gelu_gate(x)))


def silu(x: mx.array) -> mx.array:
    """0.5 x (1 + tanh(x / 2)), which is x sigmoid(x), of any shape, in the type of x."""
    return 0.5 * x * (1 + _tanh(0.5 * x)) if _on_cpu(x) else nn.silu(x)


_exporting = False


@contextmanager
def exportable() -> Iterator[None]:
    """Inside, nothing has a gradient of its own: MLX exports no graph with such a part in it."""
    global _exporting
    before, _exporting = _exporting, True
    try:
        yield
    finally:
        _exporting = before


def _gate(x: mx.array) -> mx.array:
    """The share (1 + tanh(...)) / 2 of x that GELU lets through."""
    return 0.5 + 0.5 * _tanh(math.sqrt(2 / math.pi) * x * (1 + CUBIC * x * x))


@mx.custom_function
def _gelu_gate(x: mx.array) -> mx.array:
    return _gate(x)


@_gelu_gate.vjp
def _gelu_gate_vjp(x: mx.array, cotangent: mx.array, gate: mx.array) -> mx.array:
    """From the gate itself: a gradient through the polynomials would take as long as a product."""
    slope = 2 * math.sqrt(2 / math.pi) + (6 * math.sqrt(2 / math.pi) * CUBIC) * (x * x)
    return cotangent * slope * (gate - gate * gate)


def _on_cpu(x: mx.array) -> bool:
    return mx.default_device() == mx.cpu and x.dtype == mx.float32


def _tanh(x: mx.array) -> mx.array:
    x = mx.clip(x, -LIMIT, LIMIT)
    square = x * x
    return x * _polynomial(P, square) / _polynomial(Q, square)


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    """Coefficients from the highest power down, by Horner's rule."""
    first, second, *rest = coefficients
    total = first * x + second
    for coefficient in rest:
        total = total * x + coefficient
    return total
