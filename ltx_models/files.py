"""Files that appear complete or not at all."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import psutil

from ltx_models.errors import UserError
from ltx_models.weights import save_tensors

UNFINISHED = re.compile(r"\..+\.(\d+)\.unfinished")


def write_tensors(path: Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, and its folder if there is none.

    Raises WeightsError where the disk is full.
    """
    with unfinished(path) as part:
        save_tensors(part, {k: mx.contiguous(v) for k, v in tensors.items()}, metadata)


def write_text(path: Path, text: str) -> None:
    """Write a text file, and its folder if there is none."""
    with unfinished(path) as part:
        part.write_text(text, encoding="utf-8")


def check_writable(folder: Path, *, name: str) -> None:
    """Raise UserError unless files can be written in a folder, which need not be there yet."""
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{name} {folder}: {there} is no folder that can be written to")


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A hidden name to write to, which becomes ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_unfinished(folder: Path, *, pattern: str = "**/.*.unfinished") -> None:
    """Remove what runs that were killed had begun to write; of running ones nothing."""
    for path in folder.glob(pattern):
        match = UNFINISHED.fullmatch(path.name)
        if match is None or (int(match[1]) != os.getpid() and psutil.pid_exists(int(match[1]))):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
