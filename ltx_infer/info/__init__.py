"""What a file or a folder is (--info): as data, and in lines. Of large files the headers are read.

A fact's name is what stands in front of it in a line; what is made up of several is indented there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltx_infer.info.folders import about_folder
from ltx_infer.info.media import about_media
from ltx_infer.info.weights import about_npz, about_tensors
from ltx_models.errors import UserError, printable

WIDTH = 18
LONGEST = 2000  # characters of a value in a line
WEIGHTS, NPZ = ".safetensors", ".npz"


def about(path: Path) -> dict[str, Any]:
    """Facts by name: "what" says what it is. Raises UserError for what is nothing that we know."""
    if path.is_dir():
        found = about_folder(path)
    elif not path.exists():
        raise UserError(f"--info {path}: there is no such file or folder")
    elif path.suffix.lower() == WEIGHTS:
        found = about_tensors(path)
    elif path.suffix.lower() == NPZ:
        found = about_npz(path)
    else:
        found = about_media(path)
    return {"file": str(path), **found}


def lines(facts: Mapping[str, Any], *, indent: int = 0) -> list[str]:
    """The facts, one a line, without what is empty."""
    return list(_lines(facts, indent))


def _lines(facts: Mapping[str, Any], indent: int) -> Iterator[str]:
    for name, value in facts.items():
        head = f"{' ' * indent}{name:{WIDTH - indent}}"
        if isinstance(value, Mapping):
            if value:
                yield head.rstrip()
                yield from _lines(value, indent + 2)
        elif value not in (None, "", [], ()):
            yield f"{head} {printable(_in_words(value), longest=LONGEST)}"


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(each) for each in value if each is not None)
    if isinstance(value, Mapping):
        return " ".join(_in_words(each) for each in value.values() if each is not None)
    return str(value)
