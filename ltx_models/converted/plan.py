"""What a conversion writes: which tensors, in which files, how large; nothing is read but headers.

A unit is one tensor of the source with all that is stored in its place: a quantised weight becomes
values, scales and, in affine mode, biases. A unit lies whole in one file.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import NamedTuple

from ltx_models.compensate.fit import shapes as compensation_shapes
from ltx_models.converted.layout import (
    INDEX,
    TRANSFORMER_FOLDER,
    Component,
    places,
    shard_name,
)
from ltx_models.errors import UserError
from ltx_models.quantize import WORD, Quantization, is_quantised
from ltx_models.weights import Shape, TensorFile, TensorInfo

LARGEST_FILE = 5 * 10**9  # bytes, as mlx-lm and the hub have it
ITEM_SIZES = {"C64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
METADATA = {"format": "mlx"}
ALIGNMENT = 8  # bytes, of where a file's tensors begin


class Stored(NamedTuple):
    """One tensor of a file."""

    name: str
    dtype: str  # as safetensors has it
    shape: Shape

    @property
    def num_bytes(self) -> int:
        """How large it is."""
        return ITEM_SIZES.get(self.dtype, 1) * prod(self.shape)


class Unit(NamedTuple):
    """One tensor of the source, and what is stored for it."""

    key: str
    tensors: tuple[Stored, ...]
    how: Quantization | None = None
    compensated: bool = False  # with an adapter that makes up for the quantisation

    @property
    def num_bytes(self) -> int:
        """How large it is in the file."""
        return sum(tensor.num_bytes for tensor in self.tensors)


class Shard:
    """One file of a component: its name there, its units, and its header."""

    def __init__(self, name: str, units: Sequence[Unit]):
        self.name = name
        self.units = tuple(units)

    @property
    def tensors(self) -> list[Stored]:
        """In the order in which they lie: those of large items first, so that all are aligned."""
        found = [tensor for unit in self.units for tensor in unit.tensors]
        return sorted(found, key=lambda each: (-ITEM_SIZES.get(each.dtype, 1), each.name))

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each tensor begins, counted from the end of the header."""
        found, at = {}, 0
        for tensor in self.tensors:
            found[tensor.name] = at
            at += tensor.num_bytes
        return found

    @cached_property
    def header(self) -> bytes:
        """The file's first bytes, up to its tensors."""
        entries: dict[str, object] = {"__metadata__": METADATA}
        for tensor in self.tensors:
            start = self.offsets[tensor.name]
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": [start, start + tensor.num_bytes],
            }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    @property
    def num_bytes(self) -> int:
        """The size of the file."""
        return len(self.header) + sum(unit.num_bytes for unit in self.units)


Shards = Mapping[str, tuple[Shard, ...]]  # by a component's folder


def plan_shards(
    file: TensorFile,
    components: Iterable[Component],
    how: Quantization | None,
    *,
    rank: int | None = None,
    dtype: str | None = None,
    largest: int = LARGEST_FILE,
) -> dict[str, tuple[Shard, ...]]:
    """The files of each component, from the source's header.

    fp8 weights become bfloat16. ``how`` is for the transformer's large layers, ``rank`` that of
    the adapters that make up for it, ``dtype`` of affine scales if not that of the weight. Raises
    UserError where nothing can be quantised.
    """
    units: dict[str, list[Unit]] = {component.folder: [] for component in components}
    for key in sorted(file.keys(""), key=_block_by_block):  # not a dict's
        for component, name in places(key):
            if component.folder in units:
                quantise = how if component.folder == TRANSFORMER_FOLDER else None
                info = file.infos[key]
                units[component.folder].append(_unit(key, name, info, quantise, rank, dtype))
    if how is not None and all(unit.how is None for found in units.values() for unit in found):
        raise UserError(
            f"{file.path}: no layer can be quantised in groups of {how.group_size}; smaller ones "
            "may fit"
        )
    return {folder: _packed(found, largest) for folder, found in units.items()}


def _block_by_block(key: str) -> list[str | int]:
    """Sorts keys by their numbers' values: block 2 before block 10."""
    parts = re.split(r"(\d+)", key)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def _unit(
    key: str,
    name: str,
    info: TensorInfo,
    how: Quantization | None,
    rank: int | None,
    dtype: str | None,
) -> Unit:
    stored = "BF16" if info.dtype == "F8_E4M3" else info.dtype
    path = name.removesuffix(".weight")
    if how is None or path == name or not is_quantised(path, info.shape, how):
        return Unit(key, (Stored(name, stored, info.shape),))
    rows, columns = info.shape
    packed = Stored(name, "U32", (rows, columns * how.bits // WORD))
    scales = dtype or ("BF16" if rank is not None else stored)
    groups = (rows, columns // how.group_size)
    if how.mode != "affine":
        tensors = (packed, Stored(f"{path}.scales", "U8", groups))
    else:
        both = [Stored(f"{path}.{each}", scales, groups) for each in ("scales", "biases")]
        tensors = (packed, *both)
    if rank is None:
        return Unit(key, tensors, how)
    adapter = [
        Stored(f"{path}.{each}", "BF16", shape)
        for each, shape in compensation_shapes((rows, columns), rank).items()
    ]
    return Unit(key, (*tensors, *adapter), how, compensated=True)


def _packed(units: Sequence[Unit], largest: int) -> tuple[Shard, ...]:
    """Units into files of at most ``largest`` bytes of tensors, as far as one alone is not more."""
    groups: list[list[Unit]] = [[]]
    size = 0
    for unit in units:
        if groups[-1] and size + unit.num_bytes > largest:
            groups.append([])
            size = 0
        groups[-1].append(unit)
        size += unit.num_bytes
    return tuple(
        Shard(shard_name(number, len(groups)), group) for number, group in enumerate(groups, 1)
    )


def index_text(shards: Sequence[Shard]) -> str:
    """The index of several files: the size of their tensors, and which has which."""
    listed = {tensor.name: shard.name for shard in shards for tensor in shard.tensors}
    size = sum(unit.num_bytes for shard in shards for unit in shard.units)
    return json_text({"metadata": {"total_size": size}, "weight_map": listed})


def index_files(shards: Shards) -> dict[str, str]:
    """The index of each component that has more than one file, by path."""
    return {f"{f}/{INDEX}": index_text(found) for f, found in shards.items() if len(found) > 1}


def json_text(data: object) -> str:
    """JSON as a person can read it, the same for the same data."""
    return json.dumps(data, indent=4, sort_keys=True) + "\n"


def size_text(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= one:
            return f"{num_bytes / one:.{1 if num_bytes < 100 * one else 0}f} {unit}"
    return f"{num_bytes} bytes"


def peak_memory(file: TensorFile, shards: Shards, fused: Iterable[str] = ()) -> int:
    """Bytes that the largest unit takes while it is made; ``fused`` are keys that LoRAs change.

    What is kept as it is is there once; what is computed, as floats about three times besides.
    """
    changed, found = set(fused), 0
    for unit in (unit for files in shards.values() for shard in files for unit in shard.units):
        dtype, shape = file.infos[unit.key]
        computed = unit.how is not None or dtype == "F8_E4M3" or unit.key in changed
        own = ITEM_SIZES.get(dtype, 1) * prod(shape)
        found = max(found, own + (3 * 4 * prod(shape) if computed else 0))
    return found
