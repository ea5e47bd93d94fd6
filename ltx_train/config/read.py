"""From a YAML file, and what is put over it, to a TrainConfig."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_train.config.problems import validate
from ltx_train.config.schema import TrainConfig
from ltx_train.config.shortcuts import put_shortcuts
from ltx_train.config.translate import translate

DEFAULTS = "t2v_lora.yaml"  # of the shipped configurations: what a run without a file is
# YAML 1.1 reads 1e-4 as text, since it has no dot.
FLOAT = r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"


class Read(NamedTuple):
    """A run's configuration, and one line for each value that became another one."""

    config: TrainConfig
    notes: list[str]


def shipped_configs() -> Path:
    """The folder of configurations that come with the package, in a wheel too."""
    return Path(str(files("ltx_train"))) / "configs"


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration of ``read_run``, for whom its notes are of no interest."""
    return read_run(path, overrides).config


def read_run(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    shortcuts: Mapping[str, Any] | None = None,
    debug: bool = False,
) -> Read:
    """Read a YAML file, with shortcuts (shortcuts.py) and ``section.key=value`` put over it.

    None stands for the shipped t2v_lora.yaml; without any data then and with ``debug``,
    ``data.preprocessed_data_root`` is None. Raises UserError that names every bad key by its path,
    with the nearest one that there is.
    """
    data = _read_yaml(shipped_configs() / DEFAULTS if path is None else path)
    if path is None and debug:
        data["data"]["preprocessed_data_root"] = None
    notes = put_shortcuts(data, shortcuts or {})
    for override in overrides:
        _put(data, override)
    translated = translate(data)
    problems = list(translated.problems)
    config = validate(TrainConfig, translated.data, problems)
    if config is not None and config.data.preprocessed_data_root is None and not debug:
        problems.append(
            "data.preprocessed_data_root: is required; only --debug trains on random latents"
        )
    if problems or config is None:
        at = "" if path is None else f"{path}: "
        raise UserError(f"{at}{summarise(list(dict.fromkeys(problems)))}")
    return Read(config, notes + translated.notes)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = _parse(path.read_text(encoding="utf-8"), at=str(path))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: sections (model:, lora:, data:, ...) are wanted")
    return data


def _parse(text: str, *, at: str) -> Any:
    """YAML as values that JSON has too, each in one place only; raises UserError."""
    try:
        return json.loads(json.dumps(yaml.load(text, _Loader), default=str))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(f"{at}: not YAML: {' '.join(str(error).split())}") from None


def _put(data: dict[str, Any], override: str) -> None:
    """Set one value by its dotted path, where a number counts in a list."""
    name, equals, text = override.partition("=")
    *sections, key = name.split(".")
    if not equals or not all([*sections, key]):
        raise UserError(f"{override!r}: section.key=value is wanted, as optimization.steps=500")
    value = _parse(text, at=repr(override))
    here: Any = data
    for depth, (part, following) in enumerate(pairwise([*sections, key])):
        place = _place(here, part, override, sections[:depth])
        if here[place] is None:
            here[place] = [] if following.isdigit() else {}
        here = here[place]
    here[_place(here, key, override, sections)] = value


def _place(here: Any, part: str, override: str, above: Sequence[str]) -> str | int:
    """The key or index of a value, made where it is new; raises UserError where none can be."""
    path = ".".join(above)
    if isinstance(here, dict):
        here.setdefault(part, None)
        return part
    if not isinstance(here, list):
        raise UserError(f"{override!r}: {path} has no keys of its own")
    index = int(part) if part.isdigit() else -1
    if not 0 <= index <= len(here):
        raise UserError(
            f"{override!r}: {path} is a list of {len(here)}: a number from 0 to {len(here)}, "
            f"not {part!r}, is wanted"
        )
    if index == len(here):
        here.append(None)
    return index


class _Loader(yaml.SafeLoader):
    """YAML with 1e-4 as a number; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises ConstructorError for a repeated key."""
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice[0]!r} is there twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(FLOAT), list("-+.0123456789"))
