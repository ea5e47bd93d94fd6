"""Which weights made a file: a hash that other weights do not share."""

import hashlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path

from ltx_models.weights import TensorFile

SAMPLED = 4096  # bytes of each tensor; a whole model takes minutes to read


def weights_hash(paths: Iterable[Path], *, prefixes: tuple[str, ...] = ("",)) -> str:
    """Sixteen hex digits of the tensors whose keys begin with one of ``prefixes``.

    Names, types, shapes and the first 4 KiB of each tensor decide, not where a file lies or what
    else is in it. Raises WeightsError for what is no safetensors file.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        infos = TensorFile(path).infos  # checks the file
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
            for key in (key for key in infos if key.startswith(prefixes)):
                start, stop = header[key]["data_offsets"]
                file.seek(8 + header_size + start)
                about = f"{key} {header[key]['dtype']} {header[key]['shape']} "
                found[key] = about.encode() + file.read(min(stop - start, SAMPLED))
    digest = hashlib.sha256()
    for key in sorted(found):
        digest.update(found[key])
    return digest.hexdigest()[:16]
