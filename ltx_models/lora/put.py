"""Updates onto layers: around them at run time, or into their weights for good."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import mlx.core as mx
import mlx.nn as nn

from ltx_models.lora.aware import requantised
from ltx_models.lora.fit import own_weight
from ltx_models.lora.linear import (
    Dense,
    Extra,
    Gain,
    Kron,
    Linear,
    LoRALinear,
    Shift,
)
from ltx_models.lora.updates import (
    Update,
    float_weight,
    resolved,
    stored_weight,
    weight_change,
)


class Strengths(Protocol):
    """A file's strength by layer, as ``adapters.Strength`` has it."""

    def at(self, path: str) -> float:
        """The strength for a layer, by its path."""
        ...


def wrapped(layer: Linear, updates: Mapping[int, Update], dtype: mx.Dtype) -> LoRALinear:
    """A layer with its updates beside it, by the numbers of their files; in one type."""
    adapters, extras = {}, []
    for number, given in updates.items():
        update = resolved(given, layer).cast(dtype)
        if update.low_rank is not None:
            adapters[number] = update.low_rank
        found = _extras(update)
        if given.magnitude is not None:  # or the whole weight stays until it is first used
            mx.eval([extra.parameters() for extra in found])
        extras += [(number, extra) for extra in found]
    return LoRALinear(layer, adapters, extras)


def _extras(update: Update) -> list[Extra]:
    found: list[Extra] = []
    if update.kron is not None:
        rows = None if update.rows is None else 1 + update.rows[:, 0]
        found.append(Kron(update.kron, rows))
    if update.dense is not None:
        found.append(Dense(update.dense))
    if update.rows is not None:
        found.append(Gain(update.rows[:, 0]))
    if update.bias is not None:
        found.append(Shift(update.bias))
    return found


def changes(
    layer: Linear, updates: Mapping[int, tuple[Update, float]]
) -> tuple[mx.array, mx.array | None]:
    """What updates, each with its strength, add to a layer's weight and bias; float32, lazily."""
    own = float_weight(layer)
    weight, bias = mx.zeros(own.shape), None
    for given, strength in updates.values():
        update = resolved(given, layer)
        weight = weight + strength * weight_change(update, own)
        if update.bias is not None:
            shift = strength * update.bias.astype(mx.float32)
            bias = shift if bias is None else bias + shift
    return weight, bias


def fused(
    layer: Linear, weight: mx.array | None, bias: mx.array | None, *, dtype: mx.Dtype
) -> None:
    """Add float32 changes to a layer's weight and bias, as the layer stores them; evaluated.

    A bias where there was none is of ``dtype``.
    """
    if weight is not None:
        changed = stored_weight(layer) + weight
        if isinstance(layer, nn.QuantizedLinear):
            layer.weight, layer.scales, layer.biases = requantised(layer, changed)
        else:
            layer.weight = changed.astype(layer.weight.dtype)
    if bias is not None:
        own = layer.bias if "bias" in layer else None
        changed = bias if own is None else own.astype(mx.float32) + bias
        layer.bias = changed.astype(dtype if own is None else own.dtype)
    mx.eval(layer.parameters())


class Shifted(NamedTuple):
    """A norm's weight or a table: its own value, and what each file adds at strength 1."""

    own: mx.array
    changes: Mapping[int, mx.array]


Shifts = Mapping[str, Shifted]  # by path


def shifts_of(model: nn.Module, updates: Mapping[str, Mapping[int, Update]]) -> Shifts:
    """Full differences of what is no linear layer; ``fit`` has seen that they are nothing else."""
    return {
        path: Shifted(
            own_weight(model, path),
            {number: u.dense for number, u in own.items() if u.dense is not None},
        )
        for path, own in updates.items()
    }


def put_shifts(model: nn.Module, shifts: Shifts, strengths: Sequence[Strengths]) -> None:
    """Change norms and tables by their differences, in float32; without strengths put them back."""
    for path, (own, changes) in shifts.items():
        value = own.astype(mx.float32)
        for number, change in changes.items():
            if strengths:
                value = value + strengths[number].at(path) * change.astype(mx.float32)
        _set_weight(model, path, value.astype(own.dtype))


def _set_weight(model: nn.Module, path: str, value: mx.array) -> None:
    *parents, last = path.split(".")
    at = model
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if isinstance(at[last], nn.Module):
        at[last].weight = value
    else:
        at[last] = value
