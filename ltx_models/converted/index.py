"""Which files a network of a converted folder is in."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ltx_models.config import ConfigError, as_object, read_object, summarise
from ltx_models.converted.layout import INDEX
from ltx_models.errors import printable
from ltx_models.weights import WeightsError

LONGEST = 160  # characters of a name in a message


def shards(folder: Path) -> list[Path]:
    """The files of a component: those of its index, else all; WeightsError where one is missing."""
    there = sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        wanted = sorted({folder / name for name in _weight_map(folder).values()})
        if missing := [path.name for path in wanted if path not in there]:
            raise WeightsError(f"{folder}: files of its index are missing:\n{_listed(missing)}")
        return wanted
    if not there:
        raise WeightsError(f"{folder}: has no .safetensors")
    return there


def check_index(folder: Path, found: Mapping[str, str]) -> None:
    """Raise WeightsError unless the tensors found, with their files, are those of the index.

    Files without an index have nothing to be compared with.
    """
    if not (folder / INDEX).is_file():
        return
    listed = _weight_map(folder)
    problems = [f"not in {file}: {name}" for name, file in listed.items() if name not in found]
    problems += [f"not listed: {name}" for name in found if name not in listed]
    problems += [
        f"in {found[name]}, not in {file}: {name}"
        for name, file in listed.items()
        if found.get(name, file) != file
    ]
    if problems:
        raise WeightsError(f"{folder / INDEX} is not that of its files:\n{_listed(problems)}")


def _weight_map(folder: Path) -> dict[str, str]:
    at = f"{folder / INDEX}: weight_map"
    listed = as_object(read_object(folder / INDEX).get("weight_map"), at=at)
    for name in listed.values():
        if not isinstance(name, str) or Path(name).name != name:
            shown = printable(repr(name), longest=LONGEST)
            raise ConfigError(f"{at}: names of files beside it are wanted, not {shown}")
    return listed


def _listed(names: Iterable[str]) -> str:
    return summarise([printable(name, longest=LONGEST) for name in names])
