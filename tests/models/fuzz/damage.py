"""What may have happened to a file: to its header, its length, its bytes."""

import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.models.fuzz.raw import joined, parted

Draw = Callable[[st.SearchStrategy], Any]
LENGTHS = (0, 1, 7, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 9, 2**64 - 8, 2**64 - 1)
NUMBERS = (-1, 0, 1, 3, 2**31 - 1, 2**31, 2**32, 2**32 + 4, 2**63, 2**64, 1.5, None, "4", [4])
DTYPES = ("F64", "F8_E5M2", "F8_E8M0", "X7", "f32", "", None, 4, "F32", "F16", "I32", "U8", "C64")
# As a key or a text in JSON: half a pair, zeros, lines, writing from right to left, not UTF-8.
TEXTS = (rb"\ud800", rb"\u0000", rb"\n", rb"\u2028\u0085", "\u202e\u00e9".encode(), b"\xff\xfe")
TEXTS += (b"", b"x" * 2000, rb"\\n\"", "\U0001f47e".encode(), b"\n", b"\x1b[31m")
EXTRA = (
    b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, ',
    b'"a": ["F32", [0], [0, 0]], ',
    b'"a": {"dtype": "F32", "shape": [0, 4294967296], "data_offsets": [0, 0]}, ',
    b'"a": {"dtype": "F32", "shape": [4294967301, 0], "data_offsets": [0, 0]}, ',
    b'"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, ',
    b'"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}, ',
    b'"a": {"dtype": "F32", "shape": [9223372036854775807, 3], "data_offsets": [0, 0]}, ',
    b'"a": null, ',
    b'"a": 1, ',
    b'"a": ' + b"[" * 3000 + b"]" * 3000 + b", ",
    b'"a": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b", ",
    b'"__metadata__": {"a": "b"}, ',
    b'"__metadata__": {"a": 1}, ',
    b'"__metadata__": [], ',
    b'"__metadata__": {"a": {"b": "c"}}, ',
    b'"a": {"dtype": "F32", "shape": ' + str([1] * 500).encode() + b', "data_offsets": [0, 4]}, ',
)


def length(draw: Draw, blob: bytes) -> bytes:
    """Another length of the header than it has."""
    near = st.integers(-9, 9).map(lambda n: struct.unpack("<Q", blob[:8])[0] + n)
    said = draw(st.sampled_from(LENGTHS) | near)
    return struct.pack("<Q", max(said, 0)) + blob[8:]


def cut(draw: Draw, blob: bytes) -> bytes:
    """The end is missing."""
    return blob[: draw(st.integers(0, 40) | st.integers(0, len(blob)))]


def longer(draw: Draw, blob: bytes) -> bytes:
    """Bytes behind the end."""
    return blob + draw(st.binary(min_size=1, max_size=16))


def flipped(draw: Draw, blob: bytes) -> bytes:
    """Some bytes of the header are others."""
    head, data = parted(blob)
    changed = bytearray(head)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(head) - 1))] = draw(st.integers(0, 255))
    return joined(bytes(changed), data)


def number(draw: Draw, blob: bytes) -> bytes:
    """One side or one offset is another."""
    head, data = parted(blob)
    header = json.loads(head)
    tensors = [about for key, about in header.items() if key != "__metadata__"]
    if tensors:
        field = draw(st.sampled_from(("shape", "data_offsets")))
        sides = draw(st.sampled_from(tensors))[field]
        at = draw(st.integers(0, max(len(sides) - 1, 0)))
        sides[at : at + 1] = [draw(st.sampled_from(NUMBERS))] * draw(st.integers(0, 2))
    return joined(json.dumps(header).encode(), data)


def kind(draw: Draw, blob: bytes) -> bytes:
    """One type is another."""
    head, data = parted(blob)
    header = json.loads(head)
    tensors = [about for key, about in header.items() if key != "__metadata__"]
    if tensors:
        draw(st.sampled_from(tensors))["dtype"] = draw(st.sampled_from(DTYPES))
    return joined(json.dumps(header).encode(), data)


def entry(draw: Draw, blob: bytes) -> bytes:
    """One more entry, a key twice, or two tensors at one place."""
    head, data = parted(blob)
    new = draw(st.sampled_from(EXTRA))
    keys = list(json.loads(head))
    if keys and draw(st.booleans()):
        new = new.replace(b'"a"', json.dumps(draw(st.sampled_from(keys))).encode())
    at = draw(st.sampled_from((b"{", b", ")))
    first = head.find(at) + len(at)
    return joined(head[:first] + new + head[first:], data)


def text(draw: Draw, blob: bytes) -> bytes:
    """Odd characters in a name or in another text."""
    head, data = parted(blob)
    quotes = [at for at, byte in enumerate(head) if byte == ord('"')]
    at = draw(st.sampled_from(quotes)) + 1 if quotes else 0
    return joined(head[:at] + draw(st.sampled_from(TEXTS)) + head[at:], data)


def spaces(draw: Draw, blob: bytes) -> bytes:
    """Spaces around the header, which are allowed behind it; and a header that is no object."""
    head, data = parted(blob)
    return joined(draw(st.sampled_from((b" " + head, head + b"    ", b"[]", b"null", b""))), data)


DAMAGES = (length, cut, longer, flipped, number, kind, entry, text, spaces)
