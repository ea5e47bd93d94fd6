"""A quantised linear layer with a low-rank adapter that makes up for part of its rounding."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ltx_models.quantize import Quantization

A, B = "compensation_A", "compensation_B"  # names beside the layer's weight, scales and biases


class CompensatedLinear(nn.QuantizedLinear):
    """y = Q(W) x + B (A x) + bias: a quantised layer whose weight is Q(W) + B A, all of it frozen.

    ``compensation_A`` (rank, in) and ``compensation_B`` (out, rank) belong to the base as its
    scales do: LoRAs go on top, and none is fused into them.
    """

    def __init__(self, base: nn.QuantizedLinear, rank: int):
        nn.Module.__init__(self)  # QuantizedLinear's own would make a weight and quantise it
        self.group_size, self.bits, self.mode = base.group_size, base.bits, base.mode
        for name, value in base.items():
            self[name] = value
        out_dims, columns = base.weight.shape
        self.compensation_A = mx.zeros((rank, columns * 32 // base.bits))
        self.compensation_B = mx.zeros((out_dims, rank))
        self.freeze()

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out), in the type of x."""
        return self.compensation(x, super().__call__(x))

    def compensation(self, x: mx.array, y: mx.array) -> mx.array:
        """What is computed so far (..., out), plus B (A x) of x (..., in)."""
        reduced = x @ self.compensation_A.T.astype(x.dtype)
        return mx.addmm(y, reduced, self.compensation_B.T.astype(x.dtype))


def compensation(layer: nn.Module) -> mx.array | None:
    """What a layer adds to its stored weight (out, in), in float32; None where it adds nothing."""
    if not isinstance(layer, CompensatedLinear):
        return None
    return layer.compensation_B.astype(mx.float32) @ layer.compensation_A.astype(mx.float32)


def stored_as(how: Quantization, *, compensated: bool) -> str:
    """How a layer is stored, in words: the same bits beside an adapter are other weights."""
    return f"{how}, compensated" if compensated else str(how)


def make_compensated(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Put compensated layers, with nothing in them yet, in place of quantised ones by their paths.

    Raises KeyError for a path that has no quantised layer.
    """
    quantised = {p: x for p, x in model.named_modules() if isinstance(x, nn.QuantizedLinear)}
    new = [(path, CompensatedLinear(quantised[path], rank)) for path, rank in ranks.items()]
    model.update_modules(tree_unflatten(new))
