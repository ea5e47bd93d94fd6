"""A computation as a list of MLX's own operations, from shapes alone: nothing is computed.

The very code that makes a clip is traced, so that what is planned is what is run: with its
adapters, quantised layers, masks and attention in one piece or not.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ltx_models.activations import exportable

Shape = tuple[int, ...]


class Spec(NamedTuple):
    """An array that is not there: its shape, and bytes of a value."""

    shape: Shape
    itemsize: int

    @property
    def nbytes(self) -> int:
        """All of it."""
        total = self.itemsize
        for side in self.shape:
            total *= side
        return total


class Operation(NamedTuple):
    """One of MLX's primitives; arrays go by their names on the tape."""

    name: str
    arguments: Sequence[Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Tape(NamedTuple):
    """Operations in an order in which they can be done."""

    operations: list[Operation]
    arrays: dict[str, Spec]
    weights: list[str]  # of the arrays that are there at the start, those of the module
    inputs: list[str]  # and the others
    outputs: list[str]


def trace(module: nn.Module, call: Callable[..., Any], *inputs: mx.array) -> Tape:
    """What ``call(*inputs)`` does, which computes with ``module``; only shapes are looked at.

    Its arrays may come in any tree.
    """
    weights = _flat(module.parameters())
    recorded: list[dict[str, Any]] = []

    def function(*arrays: mx.array) -> list[mx.array]:
        own, others = arrays[: len(weights)], arrays[len(weights) :]
        named = zip([name for name, _ in weights], own, strict=True)
        module.update(tree_unflatten(list(named)))
        # In a CPU's operations wherever it runs: a GPU's own are not all ones that MLX exports, and
        # what differs in memory is known of by ``Pace``.
        with mx.stream(mx.cpu):
            made = call(*others)
        return [value for _, value in _flat(made) if isinstance(value, mx.array)]

    try:
        with exportable():
            mx.export_function(recorded.append, function, *(x for _, x in weights), *inputs)
    finally:
        module.update(tree_unflatten(weights))
    return _tape(recorded, num_weights=len(weights))


def _tape(recorded: Sequence[dict[str, Any]], *, num_weights: int) -> Tape:
    arrays: dict[str, Spec] = {}
    operations: list[Operation] = []
    names: dict[str, list[str]] = {}
    for entry in recorded:
        kind = entry["type"]
        if kind == "primitive":
            given, made = (_noted(arrays, entry[key]) for key in ("inputs", "outputs"))
            operations.append(
                Operation(entry["name"], entry["arguments"], tuple(given), tuple(made))
            )
        elif kind in ("inputs", "outputs"):
            names[kind] = _noted(arrays, entry[kind])
        elif kind == "constants":
            for name, value in entry[kind]:
                arrays[name] = Spec(tuple(value.shape), value.dtype.size)
    given = names["inputs"]
    return Tape(operations, arrays, given[:num_weights], given[num_weights:], names["outputs"])


def _noted(arrays: dict[str, Spec], entries: Sequence[tuple[str, Shape, mx.Dtype]]) -> list[str]:
    for name, shape, dtype in entries:
        arrays[name] = Spec(tuple(shape), dtype.size)
    return [name for name, _, _ in entries]


def _flat(tree: Any) -> list[tuple[str, mx.array]]:
    return cast(list[tuple[str, mx.array]], tree_flatten(tree))


def with_reading(tape: Tape, stored: Mapping[str, int]) -> Tape:
    """The tape of a first use, which reads the weights from a file.

    ``stored`` has bytes of a value in the file, for those weights that are not there as they are.
    """
    operations, arrays = [], dict(tape.arrays)
    for name in tape.weights:
        if name not in stored:
            operations.append(Operation("Load", (), (), (name,)))
            continue
        read = f"{name} in the file"
        arrays[read] = Spec(tape.arrays[name].shape, stored[name])
        operations.append(Operation("Load", (), (), (read,)))
        operations.append(Operation("AsType", (), (read,), (name,)))
    held = [*tape.outputs, *tape.weights]
    return Tape([*operations, *tape.operations], arrays, [], tape.inputs, held)
