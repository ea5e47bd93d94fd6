"""Files that say which caption belongs to which clip: txt, csv, json, jsonl (spec 1.5).

A row of a table has a clip, its caption, and perhaps files that belong to it.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from ltx_models.errors import UserError
from ltx_train.inputs.item import Outcome, plain_name, stem_of
from ltx_train.inputs.text import read_text

MEDIA_COLUMNS = ("video", "media_path", "image")  # the first of a row that is not empty counts
CAPTION_COLUMN = "caption"
# The columns of files that belong to a clip, by their field in Item.
COMPANION_COLUMNS = {
    "audio": ("audio",),
    "reference_video": ("reference_video", "ref_media_path"),
    "reference_audio": ("reference_audio",),
    "video_mask": ("video_mask",),
    "audio_mask": ("audio_mask",),
}
PROMPTS_ENDINGS = (".txt", ".csv", ".json", ".jsonl")


class Row(NamedTuple):
    """One line of a prompts file, as it stands there."""

    place: str  # "prompts.csv row 3"
    media: str | None  # the clip's or still's name or path
    caption: str | None
    companions: Mapping[str, str] = {}  # paths by their field in Item


class Raw(NamedTuple):
    """A row before its columns are known."""

    place: str
    values: Mapping


def read_rows(
    path: Path,
    *,
    caption_column: str = CAPTION_COLUMN,
    video_column: str | None = None,
    names: Sequence[str] = (),
) -> tuple[list[Row], list[Outcome]]:
    """The rows of a prompts file, and the outcome of lines that are none.

    ``names`` are the clips of the input folder, sorted: a txt without ``name|caption`` has one
    caption for each of them in their order, or, where there are none, captions alone. Raises
    UserError for a file that cannot be read, has not the column that was named, or as many
    captions as there are clips.
    """
    if path.is_dir() or not path.exists():
        what = "a folder, a file is wanted" if path.is_dir() else "there is no such file"
        raise UserError(f"--prompts-file {path}: {what}")
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"--prompts-file {path}: {error}") from error
    ending = path.suffix.lower()
    if ending not in PROMPTS_ENDINGS:
        raise UserError(f"--prompts-file {path}: {', '.join(PROMPTS_ENDINGS)} are read")
    if ending == ".txt":
        return _lines(path, text, names)
    raws, outcomes = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}[ending](path, text)
    _check_columns(path, raws, caption_column, video_column)
    rows = []
    for raw in raws:
        try:
            rows.append(_row(raw, caption_column, video_column))
        except UserError as error:
            outcomes.append(Outcome(raw.place, "failed", str(error)))
    if video_column is None:
        outcomes += _passed_over(path, raws)
    return rows, outcomes


def _lines(path: Path, text: str, names: Sequence[str]) -> tuple[list[Row], list[Outcome]]:
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    known = {*names, *map(stem_of, names)}
    heads = [plain_name(line.partition("|")[0].strip()) for _, line in lines if "|" in line]
    if heads and (len(heads) == len(lines) or known.intersection(heads)):
        return _named_lines(path, lines)
    if names and len(lines) != len(names):
        raise UserError(
            f"--prompts-file {path}: {len(lines)} captions for {len(names)} clips and stills.\n"
            "One line for each, in the order of their names, would fit; or name|caption"
        )
    clips: Sequence[str | None] = names or [None] * len(lines)
    return [
        Row(f"{path.name} line {n}", name, line)
        for (n, line), name in zip(lines, clips, strict=True)
    ], []


def _named_lines(path: Path, lines: Sequence[tuple[int, str]]) -> tuple[list[Row], list[Outcome]]:
    rows, outcomes = [], []
    for n, line in lines:
        name, bar, caption = (part.strip() for part in line.partition("|"))
        if bar and name:
            rows.append(Row(f"{path.name} line {n}", name, caption or None))
        else:
            outcomes.append(Outcome(f"{path.name} line {n}", "failed", "it is not name|caption"))
    return rows, outcomes


def _csv(path: Path, text: str) -> tuple[list[Raw], list[Outcome]]:
    reader = csv.DictReader(StringIO(text), skipinitialspace=True)
    raws, outcomes = [], []
    try:
        for n, values in enumerate(reader, 1):
            place = f"{path.name} row {n}"
            if None in values:
                why = "more fields than the first line names; put quotes around a text with commas"
                outcomes.append(Outcome(place, "failed", why))
            else:
                raws.append(Raw(place, {name.strip(): value for name, value in values.items()}))
    except csv.Error as error:
        raise UserError(f"--prompts-file {path}: line {reader.line_num}: {error}") from error
    return raws, outcomes


def _json(path: Path, text: str) -> tuple[list[Raw], list[Outcome]]:
    """A list of objects, or an object of captions by name."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--prompts-file {path}: not JSON: {error}") from error
    if isinstance(found, dict):
        found = [{MEDIA_COLUMNS[0]: name, CAPTION_COLUMN: text} for name, text in found.items()]
    if not isinstance(found, list):
        raise UserError(f"--prompts-file {path}: a list of objects is wanted, or name: caption")
    raws, outcomes = [], []
    for n, values in enumerate(found, 1):
        _add_object(f"{path.name} row {n}", values, raws, outcomes)
    return raws, outcomes


def _jsonl(path: Path, text: str) -> tuple[list[Raw], list[Outcome]]:
    raws, outcomes = [], []
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path.name} line {n}"
        try:
            _add_object(place, json.loads(line), raws, outcomes)
        except json.JSONDecodeError as error:
            outcomes.append(Outcome(place, "failed", f"not JSON: {error.msg}"))
    return raws, outcomes


def _add_object(place: str, values: object, raws: list[Raw], outcomes: list[Outcome]) -> None:
    if isinstance(values, dict):
        raws.append(Raw(place, values))
    else:
        outcomes.append(Outcome(place, "failed", "an object with columns is wanted"))


def _check_columns(
    path: Path, raws: Sequence[Raw], caption_column: str, video_column: str | None
) -> None:
    """Raise UserError for a column that was named and is not there."""
    there = list(dict.fromkeys(name for raw in raws for name in raw.values))
    wanted = {"--video-column": video_column}
    if caption_column != CAPTION_COLUMN:
        wanted["--caption-column"] = caption_column
    for flag, column in wanted.items():
        if column is not None and column not in there:
            raise UserError(f"{flag} {column}: {path.name} has {', '.join(there) or 'no columns'}")


def _row(raw: Raw, caption_column: str, video_column: str | None) -> Row:
    """The row; raises UserError for what is no text."""
    columns = MEDIA_COLUMNS if video_column is None else (video_column,)
    companions = {field: _first(raw, named) for field, named in COMPANION_COLUMNS.items()}
    return Row(
        raw.place,
        _first(raw, columns),
        _first(raw, (caption_column,)),
        {field: value for field, value in companions.items() if value is not None},
    )


def _first(raw: Raw, columns: Sequence[str]) -> str | None:
    """The first of some columns that is not empty."""
    for column in columns:
        value = raw.values.get(column)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{column} is {value!r}; text is wanted")
        if value and value.strip():
            return value.strip()
    return None


def _passed_over(path: Path, raws: Sequence[Raw]) -> list[Outcome]:
    """What is to be said of files that name the clip in two columns."""
    twice: dict[tuple[str, str], int] = {}
    for raw in raws:
        found = [column for column in MEDIA_COLUMNS if raw.values.get(column)]
        if len({raw.values[column] for column in found}) > 1:
            twice[found[0], found[1]] = twice.get((found[0], found[1]), 0) + 1
    return [
        Outcome(
            path.name,
            "skipped",
            f"its column {other} in {number} rows: {taken} comes first; --video-column names one",
        )
        for (taken, other), number in twice.items()
    ]
