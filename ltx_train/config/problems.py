"""What is wrong with a configuration, one line a fault, each with the path of its key."""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ltx_models.config import LONGEST
from ltx_train.config import public
from ltx_train.config.section import Section

Kind = TypeVar("Kind", bound=Section)


def validate(
    kind: type[Kind], data: Mapping[str, Any], problems: list[str], *, at: str = ""
) -> Kind | None:
    """A section of plain data; None with what is wrong added to ``problems``.

    ``at`` is the section's path.
    """
    try:
        # As JSON, because there a strict model takes a list for a tuple, and nothing looser.
        return kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems += [_describe(each, kind, at) for each in error.errors()]
    return None


def _describe(problem: Mapping[str, Any], kind: type[Section], at: str) -> str:
    parts, section = _walk(kind, problem["loc"])
    path = ".".join([at, *parts] if at else parts)
    match problem["type"]:
        case "missing":
            return f"{path}: is required"
        case "extra_forbidden":
            known = [*section.model_fields, *_public_keys(path)]
            return f"{path}: unknown key; {_nearest(parts[-1], known)}"
        case "union_tag_not_found":
            return f"{path}.type: is required"
        case "union_tag_invalid":
            context = problem["ctx"]
            known = context["expected_tags"].replace("'", "").split(", ")
            return f"{path}.type: unknown {context['tag']!r}; {_nearest(context['tag'], known)}"
        case "value_error":  # a section's own words (section.py)
            said = str(problem["ctx"]["error"])
            return f"{path}{said}" if said.startswith(":") or not path else f"{path}.{said}"
        case _:
            shown = repr(problem["input"])
            shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
            return f"{path}: {problem['msg']}, got {shown}"


def _walk(kind: type[Section], loc: Sequence[str | int]) -> tuple[list[str], type[BaseModel]]:
    """The keys of a place, without the tags of unions that pydantic adds, and the last section."""
    parts: list[str] = []
    here: Any = kind
    section: type[BaseModel] = kind
    for part in loc:
        members = members_of(here)
        tagged = [each for each in members if _tag(each) == part]
        if len(members) > 1 and tagged:
            here = section = tagged[0]
            continue
        parts.append(str(part))
        here = _child(here, part)
        section = next((each for each in members_of(here) if _is_section(each)), section)
    return parts, section


def _child(here: Any, part: str | int) -> Any:
    for each in members_of(here):
        if _is_section(each) and part in each.model_fields:
            return each.model_fields[str(part)].annotation
        if get_origin(each) is tuple:
            return get_args(each)[0]
    return None


def members_of(annotation: Any) -> list[Any]:
    """The types that a value may be of."""
    if hasattr(annotation, "__metadata__"):  # Annotated
        return members_of(get_args(annotation)[0])
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return [each for part in get_args(annotation) for each in members_of(part)]
    return [annotation]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _tag(kind: Any) -> str | None:
    field = kind.model_fields.get("type") if _is_section(kind) else None
    return field.default if field is not None else None


def _public_keys(path: str) -> Iterable[str]:
    section, _, rest = path.partition(".")
    return public.KEYS[section].model_fields if rest and section in public.KEYS else ()


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
