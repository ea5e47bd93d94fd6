"""Which weights made a file: a hash that other weights do not share."""

import hashlib
import json
import struct
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ltx_models.weights import TensorFile

SAMPLED = 4096  # bytes of each tensor; a whole model takes minutes to read


def weights_hash(files: Iterable[TensorFile | Path], *, prefixes: tuple[str, ...] = ("",)) -> str:
    """Sixteen hex digits of the tensors whose keys begin with one of ``prefixes``.

    Names, types, shapes and the first 4 KiB of each tensor decide, not where a file lies or what
    else is in it: a converted folder has the hash of the checkpoint it was made from, of all that
    was not changed. Raises WeightsError for what is no safetensors file.
    """
    found: list[tuple[str, bytes]] = []  # of two files both, where names are the same
    for each in files:
        file = TensorFile(each) if isinstance(each, Path) else each
        places: dict[Path, dict[str, str]] = defaultdict(dict)
        for key in (key for key in file.infos if key.startswith(prefixes)):
            path, name = file.place(key)
            places[path][key] = name
        for path, names in places.items():
            found += _about(path, names)
    digest = hashlib.sha256()
    for _, about in sorted(found):
        digest.update(about)
    return digest.hexdigest()[:16]


def _about(path: Path, names: dict[str, str]) -> list[tuple[str, bytes]]:
    """Keys, and what decides of each, of tensors by their names in one file."""
    found = []
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_size))
        for key, name in names.items():
            start, stop = header[name]["data_offsets"]
            file.seek(8 + header_size + start)
            about = f"{key} {header[name]['dtype']} {header[name]['shape']} "
            found.append((key, about.encode() + file.read(min(stop - start, SAMPLED))))
    return found
