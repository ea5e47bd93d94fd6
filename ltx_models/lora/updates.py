"""The update that a file makes to a layer, in the cheapest form that is exact.

LoRA stays two factors. LoHa, the elementwise product of two products of rank r, is one of rank r^2
(columns of the left factors multiplied pairwise, rows of the right ones): it is taken so where that
is smaller than the weight. LoKr stays a Kronecker product, which is applied as two small products
and is as small in memory as the file. DoRA is a factor for each row of the weight and of the
update; a strength scales all that it changes. What is left is dense, as large as a layer in float:
full differences, LoHa of large rank, and DoRA over columns.
"""

from collections.abc import Mapping
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.compensate.linear import compensation
from ltx_models.lora.entries import Entry
from ltx_models.lora.linear import Adapter, Factors, Linear

TINY = 1e-12  # a norm of nothing, to divide by


class Update(NamedTuple):
    """What is added to a layer at strength 1: the sum of its parts."""

    low_rank: Adapter | None = None
    kron: Factors | None = None
    dense: mx.array | None = None  # shaped as the weight
    bias: mx.array | None = None
    rows: mx.array | None = None  # (out, 1): of the weight itself, g - 1, and g of kron
    magnitude: mx.array | None = None  # norms that rows (out, 1) or columns (1, in) are to have

    def cast(self, dtype: mx.Dtype) -> "Update":
        """All of it in another type."""
        low_rank, kron = self.low_rank, self.kron
        if low_rank is not None:
            low_rank = low_rank._replace(A=low_rank.A.astype(dtype), B=low_rank.B.astype(dtype))
        if kron is not None:
            kron = kron._replace(w1=kron.w1.astype(dtype), w2=kron.w2.astype(dtype))
        arrays = {
            name: None if (value := getattr(self, name)) is None else value.astype(dtype)
            for name in ("dense", "bias", "rows", "magnitude")
        }
        return Update(low_rank=low_rank, kron=kron, **arrays)


def update_of(entry: Entry, tensors: Mapping[str, mx.array]) -> Update:
    """A module's update from its tensors, by key; lazily, and in their type."""
    parts = {part: tensors[key] for part, key in entry.keys.items() if part != "alpha"}
    magnitude = parts.get("magnitude")
    if magnitude is not None and magnitude.ndim == 1:
        magnitude = magnitude[:, None]
    return _MAKE[entry.family](entry, parts)._replace(bias=parts.get("diff_b"), magnitude=magnitude)


def _lora(entry: Entry, parts: Mapping[str, mx.array]) -> Update:
    if "lora_a" in parts:
        return Update(Adapter(parts["lora_a"].T, parts["lora_b"].T, entry.scale))
    return Update(Adapter(parts["lora_A"], parts["lora_B"], entry.scale))


def _loha(entry: Entry, parts: Mapping[str, mx.array]) -> Update:
    assert entry.shape is not None
    first, second = (
        (parts[f"hada_{half}_a"].astype(mx.float32), parts[f"hada_{half}_b"].astype(mx.float32))
        for half in ("w1", "w2")
    )
    (rows, columns), rank = entry.shape, first[0].shape[1] * second[0].shape[1]
    if rank * (rows + columns) >= rows * columns:
        return Update(dense=entry.scale * (first[0] @ first[1]) * (second[0] @ second[1]))
    B = (first[0][:, :, None] * second[0][:, None]).reshape(rows, rank)
    A = (first[1][:, None] * second[1][None]).reshape(rank, columns)
    return Update(Adapter(A, B, entry.scale))


def _lokr(entry: Entry, parts: Mapping[str, mx.array]) -> Update:
    halves = [
        parts[half]
        if half in parts
        else parts[f"{half}_a"].astype(mx.float32) @ parts[f"{half}_b"].astype(mx.float32)
        for half in ("lokr_w1", "lokr_w2")
    ]
    return Update(kron=Factors(*halves, scale=entry.scale))


def _full(_entry: Entry, parts: Mapping[str, mx.array]) -> Update:
    return Update(dense=parts.get("diff"))


_MAKE = {"LoRA": _lora, "LoHa": _loha, "LoKr": _lokr, "full": _full}


def float_weight(layer: Linear) -> mx.array:
    """What a layer multiplies by (out, in), in float32: as stored, with what makes up for that."""
    added = compensation(layer)
    return stored_weight(layer) if added is None else stored_weight(layer) + added


def stored_weight(layer: Linear) -> mx.array:
    """A layer's own weight (out, in) in float32, dequantised where it is quantised."""
    if not isinstance(layer, nn.QuantizedLinear):
        return layer.weight.astype(mx.float32)
    return dequantised(layer, layer.weight, layer.scales, layer.get("biases"))


def dequantised(
    layer: nn.QuantizedLinear, weight: mx.array, scales: mx.array, biases: mx.array | None
) -> mx.array:
    """The weight (out, in) that arrays stored as this layer's mean, in float32."""
    if biases is not None:  # or the products would be rounded to the type of the scales
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    found = mx.dequantize(
        weight,
        scales,
        biases,
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
    )
    return found.astype(mx.float32)


def resolved(update: Update, layer: Linear) -> Update:
    """An update without magnitude: DoRA's norms are those of this layer's weight plus the update.

    With W the weight and D the update, W' = m (W + D) / |W + D| by rows, as PEFT has it; so g = m /
    |W + D| is a factor of both. In float32. Raises nothing; costs a dense weight for a moment.
    """
    if update.magnitude is None:
        return update
    update, weight = update.cast(mx.float32), float_weight(layer)
    assert update.magnitude is not None
    magnitude, changed = update.magnitude, weight + weight_change(update, weight)
    if magnitude.shape != (len(weight), 1):  # norms of columns
        norms = mx.maximum(mx.linalg.norm(changed, axis=0, keepdims=True), TINY)
        dense = changed * (magnitude / norms) - weight
        return Update(dense=dense, bias=update.bias)
    gain = magnitude / mx.maximum(mx.linalg.norm(changed, axis=1, keepdims=True), TINY)
    low_rank, dense = update.low_rank, update.dense
    return Update(
        low_rank=None if low_rank is None else low_rank._replace(B=gain * low_rank.B),
        kron=update.kron,
        dense=None if dense is None else gain * dense,
        bias=update.bias,
        rows=gain - 1,
    )


def weight_change(update: Update, weight: mx.array) -> mx.array:
    """What an update without magnitude adds to a weight, in float32."""
    change = mx.zeros(weight.shape)
    if update.low_rank is not None:
        A, B, scale = update.low_rank
        change = change + scale * (B.astype(mx.float32) @ A.astype(mx.float32))
    if update.kron is not None:
        w1, w2, scale = update.kron
        product = scale * mx.kron(w1.astype(mx.float32), w2.astype(mx.float32))
        change = change + (product if update.rows is None else (1 + update.rows) * product)
    if update.dense is not None:
        change = change + update.dense
    if update.rows is not None:
        change = change + update.rows * weight
    return change
