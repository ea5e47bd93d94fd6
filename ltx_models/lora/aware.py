"""An adapter in training that sees what becomes of it when it is fused into quantised weights.

With W the base's weight as it is stored and D = scale * B A, shipped is Q(W + D), where Q rounds to
what the base's mode can store. The layer computes with that; A and B get the gradients of W + D, as
if Q were not there (a straight-through estimator), and x gets that of Q(W + D).
"""

from typing import cast

import mlx.core as mx
import mlx.nn as nn

from ltx_models.compensate.linear import CompensatedLinear
from ltx_models.lora.linear import Dropout, LoRALinear
from ltx_models.lora.updates import dequantised


class AwareLoRALinear(LoRALinear):
    """A frozen quantised layer and one adapter; gives Q(W + D) x, and the bias.

    For a moment of each call it holds the layer's weight in float32, about three times; until its
    gradient is there it keeps Q(W + D), which is as large as the base's own weight.
    """

    def set_dropout(self, dropout: Dropout | None) -> None:
        """Raise ValueError for one: a weight that has been fused reads all of x."""
        if dropout is not None:
            raise ValueError("an adapter that sees its merge has no dropout")

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out), in the type of x."""
        if self._off:
            return self.base(x)
        base, lora_A, lora_B = cast(nn.QuantizedLinear, self.base), self.lora_A, self.lora_B
        # Else nothing stops MLX from making the merges of all layers at once, ahead of the first.
        stored, left, right = mx.depends([base.weight, lora_B * self._factors, lora_A], [x])
        own = dequantised(base, stored, base.scales, base.get("biases"))
        merged = mx.stop_gradient(mx.addmm(own, left, right))
        weight, scales, biases = requantised(base, merged)
        y = mx.quantized_matmul(
            x,
            weight,
            scales,
            biases,
            group_size=base.group_size,
            bits=base.bits,
            mode=base.mode,
        )
        y = y + base.bias if "bias" in base else y
        if isinstance(base, CompensatedLinear):
            y = base.compensation(x, y)
        # D x has the gradients of A and B at the price of two thin products, where that of W + D
        # itself would be as large as the weight. Its value is taken off again, exactly.
        reduced = (mx.stop_gradient(x) @ lora_A.T.astype(x.dtype)) * self._factors
        straight = reduced.astype(x.dtype) @ lora_B.T.astype(x.dtype)
        return y + (straight - mx.stop_gradient(straight))


def requantised(
    base: nn.QuantizedLinear, weight: mx.array
) -> tuple[mx.array, mx.array, mx.array | None]:
    """A weight (out, in) stored as the base's is: weight, scales, and biases in affine mode.

    Affine scales are found anew in the base's own type, so that what was stored once moves a little
    even if nothing is added (docs/numerics.md).
    """
    if base.mode == "affine":
        weight = weight.astype(base.scales.dtype)  # before, not after: half the error at 8 bits
    found = mx.quantize(weight, group_size=base.group_size, bits=base.bits, mode=base.mode)
    return found[0], found[1], found[2] if len(found) == 3 else None
