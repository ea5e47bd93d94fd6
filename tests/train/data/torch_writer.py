"""``.pt`` files as torch.save writes them, written by their form, without torch."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile

import numpy as np

STORAGES = {
    "f2": "Half",
    "f4": "Float",
    "f8": "Double",
    "i1": "Char",
    "i2": "Short",
    "i4": "Int",
    "i8": "Long",
    "u1": "Byte",
    "b1": "Bool",
}


class Storage(NamedTuple):
    """Values in a row; ``kind`` as torch names it, for what NumPy has not."""

    key: str
    values: np.ndarray
    kind: str | None = None


class Tensor(NamedTuple):
    """Some of a storage's values; counts, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def whole(key: str, values: np.ndarray, *, kind: str | None = None) -> Tensor:
    """A tensor with a storage of its own; bfloat16 where ``kind`` says so."""
    flat = bfloat16(values) if kind == "BFloat16" else np.ascontiguousarray(values)
    strides = tuple(int(np.prod(values.shape[axis + 1 :])) for axis in range(values.ndim))
    return Tensor(Storage(key, flat.reshape(-1), kind), 0, values.shape, strides)


def write_pt(path: Path, values: Mapping[str, object], *, order: str | None = "little") -> None:
    """A file with a mapping of tensors, arrays and plain values. ``order`` None: it is not said."""
    tensors = {
        key: whole(str(i), value) if isinstance(value, np.ndarray) else value
        for i, (key, value) in enumerate(values.items())
    }
    storages = {t.storage.key: t.storage for t in tensors.values() if isinstance(t, Tensor)}
    entries = {
        f"data/{key}": storage.values.astype(
            storage.values.dtype.newbyteorder(order or "little")
        ).tobytes()
        for key, storage in storages.items()
    }
    if order is not None:
        entries["byteorder"] = order.encode()
    write_archive(path, pickled(tensors), entries)


def write_archive(path: Path, pickle: bytes, entries: Mapping[str, bytes] = {}) -> None:
    """A file with this pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w", ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for name, data in {**entries, "version": b"3\n"}.items():
            archive.writestr(f"archive/{name}", data)


def pickled(value: object) -> bytes:
    """As torch.save pickles it, in protocol 2."""
    return b"\x80\x02" + _code(value) + b"."


def _code(value: object) -> bytes:
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, Mapping):
        items = b"".join(_code(key) + _code(item) for key, item in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, tuple):
        return b"(" + b"".join(_code(item) for item in value) + b"t"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else _long(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    assert isinstance(value, str)
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _long(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tensor(tensor: Tensor) -> bytes:
    storage = tensor.storage
    kind = storage.kind or STORAGES[storage.values.dtype.str[1:]]
    persistent = (
        b"("
        + _code("storage")
        + f"ctorch\n{kind}Storage\n".encode()
        + _code(storage.key)
        + _code("cpu")
        + _code(storage.values.size)
        + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + persistent
        + b"".join(_code(part) for part in (tensor.offset, tensor.shape, tensor.strides, False))
        + b"ccollections\nOrderedDict\n)RtR"
    )
