"""The adapter that takes most off a quantised layer's output error, at a given rank.

With W the weight (out, in), Q(W) what is stored and R = W - Q(W), the error on the layer's inputs
is E|(R - B A) x|^2 = |(R - B A) S^(1/2)|^2, where S = E[x x^T] are their second moments. Its least
value has B A = U U^T R, with U the first left singular vectors of R S^(1/2), which are the first
eigenvectors of R S R^T: so neither a root nor an inverse of S is needed. S itself is not made
either: it is X^T X of the inputs X (rows, in), which a subspace iteration multiplies by.

Then W - B A is quantised instead of W, which gives another R, and so on: for nothing at run time it
takes off some more (docs/numerics.md).
"""

from typing import NamedTuple

import mlx.core as mx

from ltx_models.compensate.linear import A, B
from ltx_models.quantize import Quantization, named

SPARE = 16  # vectors beside those that are wanted, for the iteration to tell them apart
FIRST, LATER = 4, 1  # iterations: from random vectors, and from those of the round before
ROUNDS = 8  # times that the weight is quantised again
TYPE = mx.bfloat16  # of the adapters as they are stored


class Compensated(NamedTuple):
    """A layer as it is stored: what ``mx.quantize`` gives, and the adapter beside it."""

    packed: tuple[mx.array, ...]  # weight, scales, and biases in affine mode
    A: mx.array  # (rank, in)
    B: mx.array  # (out, rank)

    def tensors(self) -> dict[str, mx.array]:
        """By their names in the layer."""
        return {**named(self.packed), A: self.A, B: self.B}

    def floats(self, how: Quantization) -> mx.array:
        """The weight (out, in) that all of it stands for, in float32."""
        return floats(self.packed, how) + self.B.astype(mx.float32) @ self.A.astype(mx.float32)


def shapes(shape: tuple[int, ...], rank: int) -> dict[str, tuple[int, int]]:
    """The adapter's shapes for a weight (out, in): no rank is above the weight's own."""
    out_dims, in_dims = shape
    rank = min(rank, out_dims, in_dims)
    return {A: (rank, in_dims), B: (out_dims, rank)}


def compensate(
    weight: mx.array, inputs: mx.array, how: Quantization, rank: int, *, rounds: int = ROUNDS
) -> Compensated:
    """Quantise a weight (out, in) and fit the adapter to what that loses on inputs (rows, in).

    Evaluated. ``rounds`` is how often the weight is quantised again without what the adapter has.
    """
    weight = weight.astype(mx.float32)
    out_dims, rank = len(weight), shapes(weight.shape, rank)[A][0]
    width = min(rank + SPARE, *weight.shape)
    vectors = mx.random.normal((out_dims, width), key=mx.random.key(0))
    adapter = mx.zeros((rank, weight.shape[1]), TYPE), mx.zeros((out_dims, rank), TYPE)
    packed, iterations = (), FIRST
    for _ in range(rounds + 1):
        lora_A, lora_B = adapter
        packed = quantised(weight - lora_B.astype(mx.float32) @ lora_A.astype(mx.float32), how)
        residual = weight - floats(packed, how)
        vectors = _iterated(vectors, residual, inputs, iterations)
        adapter = _fitted(vectors, residual, inputs, rank)
        mx.eval(packed, vectors, adapter)
        iterations = LATER
    return Compensated(packed, *adapter)


def quantised(weight: mx.array, how: Quantization) -> tuple[mx.array, ...]:
    """A weight (out, in) as MLX packs it: weight, scales, and biases in affine mode."""
    weight = weight.astype(TYPE)  # which makes it that of the scales
    return tuple(mx.quantize(weight, group_size=how.group_size, bits=how.bits, mode=how.mode))


def floats(packed: tuple[mx.array, ...], how: Quantization) -> mx.array:
    """What a packed weight (out, in) stands for, in float32."""
    weight, *rest = packed
    if how.mode == "affine":
        rest = [each.astype(mx.float32) for each in rest]
    found = mx.dequantize(weight, *rest, group_size=how.group_size, bits=how.bits, mode=how.mode)
    return found.astype(mx.float32)


def _iterated(vectors: mx.array, residual: mx.array, inputs: mx.array, count: int) -> mx.array:
    """Vectors (out, width) closer to the first eigenvectors of R S R^T; orthonormal."""
    for _ in range(count):
        found = residual @ (inputs.T @ (inputs @ (residual.T @ vectors)))
        vectors, _ = mx.linalg.qr(found, stream=mx.cpu)  # there is none on a GPU
        mx.eval(vectors)
    return vectors


def _fitted(
    vectors: mx.array, residual: mx.array, inputs: mx.array, rank: int
) -> tuple[mx.array, mx.array]:
    """The first ``rank`` eigenvectors in the span of ``vectors`` as B, and A = B^T R."""
    errors = inputs @ (residual.T @ vectors)
    _, turned = mx.linalg.eigh(errors.T @ errors, stream=mx.cpu)  # ascending
    first = vectors @ turned[:, ::-1][:, :rank]
    return (first.T @ residual).astype(TYPE), first.astype(TYPE)
