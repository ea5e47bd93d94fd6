"""One file of a component, written tensor by tensor: no more than one unit is in memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from ltx_models.converted.plan import Shard, Stored, Unit
from ltx_models.files import unfinished
from ltx_models.quantize import Quantization
from ltx_models.weights import TensorFile

DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "U8": mx.uint8,
}
# What is stored in place of a source's tensor, in the order of the unit's tensors.
Make = Callable[[Unit, mx.array], Sequence[mx.array]]


def is_finished(path: Path, shard: Shard) -> bool:
    """Whether a file is there with this shard's header and size; it got its name when complete."""
    if not path.is_file() or path.stat().st_size != shard.num_bytes:
        return False
    with path.open("rb") as file:
        return file.read(len(shard.header)) == shard.header


def write_shard(path: Path, shard: Shard, source: TensorFile, make: Make) -> Iterator[Unit]:
    """Write a file, and give each unit when it is written; the file appears with the last.

    Raises WeightsError as ``source.tensors``, OSError for a disk that is full.
    """
    lazily = source.tensors("", [unit.key for unit in shard.units])
    with unfinished(path) as part, part.open("wb") as into:
        into.write(shard.header)
        for unit in shard.units:
            arrays = make(unit, lazily.pop(unit.key))
            for stored, array in zip(unit.tensors, arrays, strict=True):
                into.seek(len(shard.header) + shard.offsets[stored.name])
                into.write(_bytes(stored, array))
            del arrays
            mx.clear_cache()
            yield unit
        into.flush()
        os.fsync(into.fileno())


def _bytes(stored: Stored, array: mx.array) -> memoryview:
    wanted = DTYPES.get(stored.dtype)
    assert array.shape == stored.shape
    assert wanted is None or array.dtype == wanted
    return np.asarray(mx.contiguous(array).reshape(-1).view(mx.uint8)).data


def make_stored(unit: Unit, value: mx.array) -> list[mx.array]:
    """A value as a unit stores it, evaluated; without the adapter that makes up for bits.

    Quantised in affine mode it gets the type of its scales first: the error is half of what it is
    if scales are rounded afterwards. The other modes take what there is.
    """
    if unit.how is None:
        (stored,) = unit.tensors
        wanted = DTYPES.get(stored.dtype, value.dtype)
        found = [value.astype(wanted)]
    else:
        found = quantised(value, unit.how, scales=DTYPES[unit.tensors[1].dtype])
    mx.eval(found)
    return found


def quantised(value: mx.array, how: Quantization, *, scales: mx.Dtype) -> list[mx.array]:
    """Values, scales and, in affine mode, biases of a weight (out, in); lazily."""
    if how.mode == "affine":
        value = value.astype(scales)
    found = mx.quantize(value, group_size=how.group_size, bits=how.bits, mode=how.mode)
    return list(found)


def write_component(
    folder: Path,
    shards: Sequence[Shard],
    source: TensorFile,
    make: Make,
) -> Iterator[Unit]:
    """Write the files of a component that are not there yet; gives each unit, written or not."""
    for shard in shards:
        path = folder / shard.name
        if is_finished(path, shard):
            yield from shard.units
        else:
            yield from write_shard(path, shard, source, make)
