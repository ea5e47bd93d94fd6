"""Safetensors by hand, right or wrong in any way, and what a command makes of them."""

import io
import json
import struct
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltx_infer.command import run_command

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
SIZES |= {"I64": 8, "U64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1, "C64": 8, "X7": 3}


class Raw(NamedTuple):
    """A tensor as a file has it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def raw(values: Any, dtype: str = "F32") -> Raw:
    """Numbers as a tensor of a type; of fp8 every value is a power of two, so that none is off."""
    array = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        match dtype:
            case "BF16":
                data = (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            case "F8_E4M3":
                exponents = np.clip(np.round(np.log2(np.abs(array) + 1e-30)), -6, 8).astype(int)
                data = ((array < 0) * 128 + (exponents + 7) * 8).astype(np.uint8)
            case _:
                kinds = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "U64": "u8"}
                kinds |= {"I32": "i4", "U8": "u1", "I8": "i1", "BOOL": "?", "C64": "c8"}
                data = array.astype(kinds.get(dtype, "u1"))
    blob = data.tobytes()
    wanted = prod(array.shape) * SIZES[dtype]
    return Raw(dtype, array.shape, (blob * SIZES[dtype])[:wanted])


def blob_of(tensors: Mapping[str, Raw], metadata: Any = None) -> bytes:
    """A whole file; ``metadata`` may be anything."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + len(tensor.data)
        header[key] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    return joined(json.dumps(header).encode(), b"".join(t.data for t in tensors.values()))


def joined(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def parted(blob: bytes) -> tuple[bytes, bytes]:
    """Header and data of a file."""
    (length,) = struct.unpack("<Q", blob[:8])
    return blob[8 : 8 + length], blob[8 + length :]


def values(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file in float64, by a reader of its own."""
    header, data = parted(path.read_bytes())
    found = {}
    for key, about in json.loads(header).items():
        if key != "__metadata__":
            start, end = about["data_offsets"]
            found[key] = _decoded(data[start:end], about["dtype"]).reshape(about["shape"])
    return found


def _decoded(data: bytes, dtype: str) -> np.ndarray:
    match dtype:
        case "BF16":
            halves = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
            return halves.view(np.float32).astype(np.float64)
        case "F8_E4M3":
            return _E4M3[np.frombuffer(data, np.uint8)]
    kinds = {"F32": "f4", "F16": "f2", "I64": "i8", "U64": "u8", "I32": "i4", "U32": "u4"}
    kinds |= {"U8": "u1", "I8": "i1", "I16": "i2", "U16": "u2"}
    return np.frombuffer(data, kinds[dtype]).astype(np.float64)


def _e4m3(code: int) -> float:
    sign, exponent, mantissa = (-1) ** (code >> 7), code >> 3 & 15, code & 7
    if code & 127 == 127:
        return float("nan")
    scale = 2.0 ** (max(exponent, 1) - 7)
    return sign * scale * (mantissa / 8 + (exponent > 0))


_E4M3 = np.array([_e4m3(code) for code in range(256)])


def refused(command: Callable[[], None]) -> bool:
    """Run as a command; whether it ended with exit code 2 and at most four lines, or ran well.

    Whatever else it ends with is raised: a fault of the product.
    """
    said, code = io.StringIO(), 0
    try:
        with redirect_stderr(said):
            run_command("ltx-test", command)
    except SystemExit as end:
        code = end.code
    text = said.getvalue()
    lines = text.splitlines()
    assert (code, bool(text)) in ((0, False), (2, True)), text
    assert len(lines) <= 4, text
    assert not text or text.startswith("ltx-test: "), text
    assert all(len(line) < 3000 for line in lines), text
    return code == 2
