"""A linear layer with low-rank adapters on it, and where such layers are in a model.

lora_A is (rank, in) and lora_B is (out, rank), as in the files in circulation.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

Linear = nn.Linear | nn.QuantizedLinear


class Adapter(NamedTuple):
    """One update of one layer: strength * scale * B @ A."""

    A: mx.array  # (rank, in)
    B: mx.array  # (out, rank)
    scale: float  # alpha / rank


class Factors(NamedTuple):
    """One update of one layer, strength * scale * kron(w1, w2): a weight (a c, b d)."""

    w1: mx.array  # (a, b)
    w2: mx.array  # (c, d)
    scale: float


class Dropout(NamedTuple):
    """Inputs at zero with ``probability``, the others larger for it; which ones, ``key`` says.

    By key, because a block that is computed again for its gradient has to drop the same.
    """

    probability: float
    key: mx.array

    def apply(self, x: mx.array) -> mx.array:
        """Drop from x, of any shape; in its type."""
        kept = 1 - self.probability
        return mx.where(mx.random.bernoulli(kept, x.shape, key=self.key), x / kept, 0)


class Kron(nn.Module):
    """kron(w1, w2) x, times a factor for each row if there is one: two small products."""

    def __init__(self, factors: Factors, rows: mx.array | None = None):
        super().__init__()
        self.w1, self.w2, self.scale = factors
        self.rows = rows

    def __call__(self, x: mx.array, _product: mx.array) -> mx.array:
        """(..., b d) to (..., a c)."""
        x = mx.unflatten(x, -1, (self.w1.shape[1], self.w2.shape[1])) @ self.w2.T.astype(x.dtype)
        y = (x.swapaxes(-1, -2) @ self.w1.T.astype(x.dtype)).swapaxes(-1, -2).flatten(-2)
        return self.scale * (y if self.rows is None else y * self.rows.astype(y.dtype))


class Dense(nn.Module):
    """A whole weight (out, in) beside the layer's own."""

    def __init__(self, weight: mx.array):
        super().__init__()
        self.weight = weight

    def __call__(self, x: mx.array, _product: mx.array) -> mx.array:
        """(..., in) to (..., out)."""
        return x @ self.weight.T.astype(x.dtype)


class Gain(nn.Module):
    """What the layer's own weight gives, times a factor (out,) for each row."""

    def __init__(self, rows: mx.array):
        super().__init__()
        self.rows = rows

    def __call__(self, _x: mx.array, product: mx.array) -> mx.array:
        """(..., out) to (..., out)."""
        return product * self.rows.astype(product.dtype)


class Shift(nn.Module):
    """A bias (out,) beside the layer's own."""

    def __init__(self, bias: mx.array):
        super().__init__()
        self.bias = bias

    def __call__(self, _x: mx.array, product: mx.array) -> mx.array:
        """(..., out), whatever comes in."""
        return mx.broadcast_to(self.bias.astype(product.dtype), product.shape)


Extra = Kron | Dense | Gain | Shift  # called with x and with the base's W x


class LoRALinear(nn.Module):
    """A frozen linear layer plus its updates: base(x) + sum of strength * scale * B A x.

    ``lora_A`` (ranks, in) and ``lora_B`` (out, ranks) hold all adapters, so that any number costs
    two products; a strength is a factor on what goes between the two. ``adapters`` go by their
    number among those of the model. ``extras`` are updates that are no product of two factors, each
    with such a number. All is frozen; ``add_trainable`` unfreezes the two matrices.
    """

    def __init__(
        self,
        base: Linear,
        adapters: Mapping[int, Adapter],
        extras: Sequence[tuple[int, Extra]] = (),
    ):
        super().__init__()
        parts = list(adapters.values())
        self.base = base
        if parts:
            self.lora_A = _joined([part.A for part in parts], axis=0)
            self.lora_B = _joined([part.B for part in parts], axis=1)
        if extras:
            self.extras = [extra for _, extra in extras]
        self.scales = tuple(part.scale for part in parts)
        self.numbers = tuple(adapters)
        self._extra_numbers = tuple(number for number, _ in extras)
        self._ranks = tuple(part.A.shape[0] for part in parts)
        self._dropout: Dropout | None = None
        self.freeze()
        self.set_strengths([1.0] * (max([*self.numbers, *self._extra_numbers]) + 1))

    def set_strengths(self, strengths: Sequence[float]) -> None:
        """Multiply adapter number n by ``strengths[n]``; one at 0 is not computed."""
        own = [strengths[number] for number in self.numbers]
        factors = np.repeat(np.multiply(own, self.scales), self._ranks)
        used = np.flatnonzero(factors)
        self._off = len(used) == 0
        self._factors = mx.array(factors[used], mx.float32)
        self._some = None  # all ranks: the matrices are used where they are
        if 0 < len(used) < len(factors):
            rows = mx.array(used, mx.int32)
            self._some = (self.lora_A[rows], self.lora_B[:, rows])
        self._extra_factors = tuple(
            mx.array(strengths[number], mx.float32) if strengths[number] else None
            for number in self._extra_numbers
        )

    def set_dropout(self, dropout: Dropout | None) -> None:
        """Drop some of what the update reads, as PEFT does; the base reads all of it."""
        self._dropout = dropout

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out), in the type of x."""
        y = self.base(x)
        if self._extra_numbers:
            y = self._with_extras(x, y)
        if self._off:
            return y
        if self._dropout is not None:
            x = self._dropout.apply(x)
        lora_A, lora_B = self._some or (self.lora_A, self.lora_B)
        # float32 here, because a strength such as 0.7 is off by 0.1 % in bfloat16.
        reduced = (x @ lora_A.T.astype(x.dtype)) * self._factors
        return mx.addmm(y, reduced.astype(x.dtype), lora_B.T.astype(x.dtype))

    def _with_extras(self, x: mx.array, y: mx.array) -> mx.array:
        product = y - self.base.bias if "bias" in self.base else y
        for extra, factor in zip(self.extras, self._extra_factors, strict=True):
            if factor is not None:
                y = y + (factor * extra(x, product)).astype(y.dtype)
        return y

    @property
    def weight(self) -> mx.array:
        """The base's weight, so that what asks a linear layer for its type gets an answer."""
        return self.base.weight


def linears(model: nn.Module) -> dict[str, Linear]:
    """Linear layers by path. Raises ValueError for a model that has adapters already."""
    if lora_layers(model):
        raise ValueError("the model has adapters already: attach all at once, or detach first")
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, Linear)}


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Layers with adapters, by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def weight_shape(layer: Linear) -> tuple[int, int]:
    """(out, in) of a layer's weight, however it is stored."""
    out_dims, columns = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        columns = columns * 32 // layer.bits  # packed into 32-bit words
    return out_dims, columns


def _joined(arrays: Sequence[mx.array], *, axis: int) -> mx.array:
    return arrays[0] if len(arrays) == 1 else mx.concatenate(list(arrays), axis=axis)
