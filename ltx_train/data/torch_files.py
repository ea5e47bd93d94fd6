"""What torch.save wrote, read without torch: the caches of the public trainer.

A ``.pt`` file is a zip: ``NAME/data.pkl`` is a pickle that says which tensors there are, and
``NAME/data/KEY`` are their storages, uncompressed. Nothing is ever unpacked to disk.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import mlx.core as mx
import numpy as np

from ltx_models.errors import UserError, reason
from ltx_models.weights import TensorInfo
from ltx_train.data.pickles import STORAGES, ForbiddenError, View, unpickle

PT_ENDING = ".pt"
LONGEST_PICKLE = 1 << 20  # bytes; that of a sample has a few hundred
OLD_FORM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # before torch 1.6
DAMAGE = (
    BadZipFile,
    ValueError,
    LookupError,
    EOFError,
    OverflowError,
    NotImplementedError,
    struct.error,
)


class TorchFile:
    """A ``.pt`` file that holds a mapping: what there is at once, the tensors when asked for.

    ``infos`` has type and shape of the tensors, ``metadata`` the plain values as text, both by
    key; what else the mapping holds is passed over. Raises UserError, one line, for a file that
    cannot be read, is damaged, or wants more than tensors and plain values.
    """

    def __init__(self, path: Path):
        self.path = path
        value = self._guarded(_mapping)
        self._views = {key: part for key, part in value.items() if isinstance(part, View)}
        self.infos = {
            key: TensorInfo(STORAGES[view.storage.kind][0], view.shape)
            for key, view in self._views.items()
        }
        self.metadata = {
            key: str(part) for key, part in value.items() if isinstance(part, int | float | str)
        }

    def read(self, key: str) -> mx.array:
        """One tensor, contiguous; float64 becomes float32. Raises UserError as opening does."""
        view = self._views[key]
        return _to_mlx(self._guarded(lambda archive: _values(archive, view)), view)

    def _guarded(self, read: Callable[[ZipFile], Any]) -> Any:
        """What ``read`` makes of the zip; what is wrong with that becomes a UserError."""
        try:
            with self.path.open("rb") as file, ZipFile(file) as archive:
                return read(archive)
        except OSError as error:
            raise UserError(f"{self.path}: {reason(error)}") from None
        except ForbiddenError as error:
            raise UserError(
                f"{self.path}: its pickle asks for {error}; only tensors and plain values are "
                "read, and nothing of it was run"
            ) from None
        except DAMAGE as error:
            raise UserError(f"{self.path}: {_damage(self.path, error)}") from None


def _damage(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        if file.read(len(OLD_FORM)) == OLD_FORM:
            return "in the form of before torch 1.6; torch.save(torch.load(FILE), FILE) renews it"
    said = " ".join(str(error).split())
    return f"not a whole file of torch.save ({path.stat().st_size} bytes): {said[:200]}"


def _entry(archive: ZipFile, name: str, *, most: int) -> bytes:
    """The bytes of an entry. Raises ValueError for one that is not as torch.save writes it."""
    info = archive.getinfo(name)
    if info.compress_type != ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name!r} in it is compressed or encrypted")
    room = min(most, archive.start_dir - info.header_offset)
    if info.file_size != info.compress_size or info.file_size > room:
        raise ValueError(f"{name!r} in it says {info.file_size} bytes, {room} would fit")
    return archive.read(info)


def _root(archive: ZipFile) -> str:
    """``NAME`` of the zip's entries."""
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1 or names[0].count("/") != 1:
        raise ValueError("it has not one NAME/data.pkl")
    return names[0].removesuffix("/data.pkl")


def _mapping(archive: ZipFile) -> dict[str, Any]:
    value = unpickle(_entry(archive, f"{_root(archive)}/data.pkl", most=LONGEST_PICKLE))
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping of names to tensors")
    return value


def _values(archive: ZipFile, view: View) -> np.ndarray:
    """The values of a tensor as they lie in the file, brought to this machine's byte order."""
    root, storage = _root(archive), view.storage
    order = "little"  # files of before torch 2.1 do not say, and were not written elsewhere
    if f"{root}/byteorder" in archive.namelist():
        order = _entry(archive, f"{root}/byteorder", most=16).decode()
    if order not in ("little", "big"):
        raise ValueError(f"its byteorder is {order!r}")
    kind = np.dtype(STORAGES[storage.kind][1]).newbyteorder(order)
    size = storage.size * kind.itemsize
    data = _entry(archive, f"{root}/data/{storage.key}", most=size)
    if len(data) != size:
        raise ValueError(f"storage {storage.key} has {len(data)} bytes of {size}")
    flat = np.frombuffer(data, kind)[view.offset :]
    steps = [step * kind.itemsize for step in view.strides]
    found = np.lib.stride_tricks.as_strided(flat, view.shape, steps, writeable=False)
    return np.array(found, kind.newbyteorder("="), order="C")


def _to_mlx(values: np.ndarray, view: View) -> mx.array:
    dtype = STORAGES[view.storage.kind][0]
    if dtype == "BF16":
        return mx.array(values).view(mx.bfloat16).reshape(view.shape)
    if dtype == "BOOL":
        return mx.array(values != 0)
    return mx.array(values.astype(np.float32) if dtype == "F64" else values)
