"""Sections of a checkpoint's configuration: every key is read, known to be idle, or an error.

Also the one reader of JSON: a file, or a text inside one, that has to hold an object.
"""

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltx_models.errors import UserError, printable, reason

LONGEST = 60  # characters of a wrong value in a message
DEEPEST = 64  # objects and lists in each other
LARGEST = 2**20
MOST_LAYERS = 200  # of one kind; each is built, to be compared with the tensors
LayerCount = Annotated[int, Field(gt=0, le=MOST_LAYERS)]
LIMITS = f"is no number from {-LARGEST} to {LARGEST}"


class ConfigError(UserError):
    """A configuration that names an unknown key or a value that no network here computes."""


class Section(BaseModel):
    """One section of a checkpoint's ``config``; a subclass's fields are the keys that it reads.

    ``constants`` are keys that every released file has with the same value: the networks compute
    only that, so another value is an error. ``idle`` keys change nothing in any file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    constants: ClassVar[Mapping[str, Any]] = {}
    idle: ClassVar[Collection[str]] = ()

    @classmethod
    def read(
        cls, data: Mapping[str, Any], *, at: str = "config", allow_unknown: Collection[str] = ()
    ) -> Self:
        """Build from a section's data; ``at`` is its path, for messages.

        Raises ConfigError with all problems at once.
        """
        problems = [f"{at}.{key} {LIMITS}" for key in _outside(data)]
        if problems:
            raise ConfigError(summarise([printable(problem) for problem in problems]))
        fields = cls._fields_of(data, at, allow_unknown, problems)
        section = None
        try:
            section = cls.model_validate(fields)
        except ValidationError as error:
            problems += [_describe(problem, at, cls) for problem in error.errors()]
        if problems or section is None:
            raise ConfigError(summarise([printable(problem) for problem in problems]))
        return section

    @classmethod
    def _fields_of(
        cls, data: Mapping[str, Any], at: str, allow_unknown: Collection[str], problems: list[str]
    ) -> dict[str, Any]:
        """What is left for fields, in nested sections too; wrong constants go to ``problems``."""
        problems += [
            f"{at}.{key}: {data[key]!r}, but only {value!r} is computed here"
            for key, value in cls.constants.items()
            if key in data and data[key] != value
        ]
        skipped = {*cls.constants, *cls.idle, *allow_unknown} - cls.model_fields.keys()
        left = {key: value for key, value in data.items() if key not in skipped}
        for key, field in cls.model_fields.items():
            nested, value = field.annotation, left.get(key)
            if (
                isinstance(nested, type)
                and issubclass(nested, Section)
                and isinstance(value, Mapping)
            ):
                left[key] = nested._fields_of(value, f"{at}.{key}", allow_unknown, problems)
        return left


def _outside(data: Any) -> list[str]:
    """The paths of numbers that no size, rate or factor of a network is."""
    if isinstance(data, int | float):
        return [] if abs(data) <= LARGEST else [""]
    if not isinstance(data, Mapping | list):
        return []
    nodes = data.items() if isinstance(data, Mapping) else enumerate(data)
    return [f"{key}.{path}".rstrip(".") for key, value in nodes for path in _outside(value)]


def _describe(problem: Mapping[str, Any], at: str, cls: type[Section]) -> str:
    path = ".".join([at, *map(str, problem["loc"])])
    if problem["type"] == "value_error":  # a validator's own words
        return f"{path}: {problem['ctx']['error']}"
    if problem["type"] != "extra_forbidden":
        return f"{path}: {problem['msg']}, got {problem['input']!r}"
    near = get_close_matches(str(problem["loc"][-1]), cls.model_fields, n=1)
    hint = f"did you mean {near[0]!r}? Otherwise" if near else "if it changes nothing,"
    return f"{path}: unknown key; {hint} --allow-unknown-config {problem['loc'][-1]}"


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ConfigError for a file that cannot be read or has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not JSON: no UTF-8 text: {error}") from None
    return parse_object(text, at=str(path))


def parse_object(text: str, *, at: str) -> dict[str, Any]:
    """The object in a JSON text; ``at`` is where it lies, for messages. Raises ConfigError."""
    try:
        data = json.loads(text)
        _check_depth(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{at} is not JSON: {error}\nFetch it again.") from None
    return as_object(data, at=at)


def _check_depth(data: Any) -> None:
    """Raise ValueError for JSON so deep that no one function here could walk it."""
    level = [data]
    for _ in range(DEEPEST):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return
        inside = [node.values() if isinstance(node, dict) else node for node in level]
        level = [child for nodes in inside for child in nodes]
    raise ValueError(f"more than {DEEPEST} levels of it lie in each other")


def as_object(data: Any, *, at: str) -> dict[str, Any]:
    """The value itself if it is a JSON object; else ConfigError says what lies ``at`` its place."""
    if isinstance(data, dict):
        return data
    said = json.dumps(data)
    shown = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    raise ConfigError(f"{at} is not a JSON object, but {shown}")


def summarise(problems: list[str], *, shown: int = 3, unnamed: int = 0) -> str:
    """At most ``shown`` lines, the last of which counts what is left out.

    ``unnamed`` is how many more there are than the list has.
    """
    if len(problems) + unnamed <= shown:
        return "\n".join(problems)
    rest = len(problems) + unnamed - shown + 1
    return "\n".join([*problems[: shown - 1], f"... and {rest} more"])
