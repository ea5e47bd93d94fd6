"""A ``datasets`` repository or folder, to items; nothing is decoded, so no torch is needed.

What is in the tables as bytes is written to ``OUT/sources``, so that it is read like any file.
"""

import atexit
import shutil
import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    Image,
    Video,
    disable_progress_bars,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetNotFoundError, DatasetsError

from ltx_models.errors import UserError
from ltx_models.files import unfinished
from ltx_train.inputs.item import (
    MEDIA_ENDINGS,
    Item,
    Outcome,
    is_media,
    plain_name,
    stem_of,
)
from ltx_train.inputs.prompts import CAPTION_COLUMN, COMPANION_COLUMNS, MEDIA_COLUMNS
from ltx_train.precompute.config import PrecomputeConfig

SOURCES = "sources"
SPLIT = "train"
# The beginning of a file without a name, from a place on, and the ending that it should have.
HEADS = (
    (4, b"ftypqt", ".mov"),
    (4, b"ftypavif", ".avif"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (0, b"GIF8", ".gif"),
    (0, b"\x89PNG", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (0, b"BM", ".bmp"),
    (0, b"fLaC", ".flac"),
    (0, b"ID3", ".mp3"),
    (0, b"OggS", ".ogg"),
)


class Table(NamedTuple):
    """A data set's rows, where its files lie, and where those go that are in it as bytes."""

    rows: Dataset
    root: Path | None  # its folder; None for a repository
    sources: Path


class File(NamedTuple):
    """A file's name, and where it lies or what is in it."""

    name: str
    content: Path | bytes


def dataset_items(config: PrecomputeConfig) -> tuple[list[Item], list[Outcome]]:
    """The items of ``config.dataset``; captions may be None. Raises UserError if it has none."""
    assert config.dataset is not None
    path = Path(config.dataset).expanduser()
    if path.exists() and config.output_dir.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--output-dir {config.output_dir}: it lies in --dataset; name another")
    disable_progress_bars()
    rows, outcomes = _load(config.dataset)
    table = Table(_undecoded(rows), path if path.exists() else None, _sources(config))
    media, captions = _columns(table.rows, config)
    items: list[Item] = []
    names: set[str] = set()
    for number, row in enumerate(table.rows):
        assert isinstance(row, dict)
        try:
            item = _item(row, number, media, table, taken=names)
            items.append(item._replace(caption=_caption(row, captions)))
        except UserError as error:
            outcomes.append(Outcome(f"row {number}", "failed", str(error)))
            continue
        names.add(stem_of(item.name))
    return items, outcomes


def _sources(config: PrecomputeConfig) -> Path:
    """Where bytes are written; a dry run leaves nothing."""
    if not config.dry_run:
        return config.output_dir / SOURCES
    folder = Path(tempfile.mkdtemp(prefix="ltx-precompute-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _load(name: str) -> tuple[Dataset, list[Outcome]]:
    """The rows, and the splits that are passed over. Raises UserError where there are none."""
    path = Path(name).expanduser()
    try:
        if any((path / known).is_file() for known in ("state.json", "dataset_dict.json")):
            found = load_from_disk(str(path))
        else:
            found = load_dataset(str(path) if path.exists() else name)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise UserError(
            f"--dataset {name}: there is no such folder, and the hub cannot be asked for one or "
            f"has none: {_one_line(error)}"
        ) from error
    except IndexError as error:  # of a saved table without any
        raise UserError(f"--dataset {name}: it has no rows") from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--dataset {name}: {_one_line(error)}") from error
    if isinstance(found, Dataset):
        return found, []
    if not isinstance(found, DatasetDict):
        raise UserError(f"--dataset {name}: no table of rows")
    chosen = SPLIT if SPLIT in found else next(iter(found))
    if chosen != SPLIT and len(found) > 1:
        raise UserError(
            f"--dataset {name}: it has no split {SPLIT}, only {', '.join(map(str, found))}"
        )
    return found[chosen], [
        Outcome(f"split {other}", "skipped", f"the split {chosen} is taken")
        for other in found
        if other != chosen
    ]


def _one_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _undecoded(rows: Dataset) -> Dataset:
    """The rows with files as paths and bytes."""
    for name, kind in rows.features.items():
        for media in (Video, Image, Audio):
            if isinstance(kind, media):
                rows = rows.cast_column(name, media(decode=False))
    return rows


def _columns(rows: Dataset, config: PrecomputeConfig) -> tuple[Sequence[str], str]:
    """The columns of the media, the first that is not empty counts, and of the caption."""
    there = rows.column_names
    wanted = (config.video_column,) if config.video_column else MEDIA_COLUMNS
    media = [column for column in wanted if column in there]
    if not media:
        flag = f"--video-column {wanted[0]}" if config.video_column else "--video-column"
        hint = ". Clips with texts beside them are an --input-dir" if there == ["text"] else ""
        raise UserError(f"{flag}: {config.dataset} has {', '.join(there)}{hint}")
    named = config.caption_column
    if named not in there and not (config.caption and named == CAPTION_COLUMN):
        raise UserError(f"--caption-column {named}: {config.dataset} has {', '.join(there)}")
    return media, named


def _item(
    row: Mapping[str, object],
    number: int,
    media: Sequence[str],
    table: Table,
    *,
    taken: Container[str],
) -> Item:
    """The item of a row, its bytes written. Raises UserError for what cannot be used."""
    column = next((column for column in media if row[column]), None)
    if column is None:
        raise UserError(f"nothing in its {' or '.join(media)}")
    file = _file(row[column], table, f"{number:06}", taken=taken)
    if not is_media(PurePath(file.name)):
        raise UserError(f"{file.name}: no clip or still: {', '.join(MEDIA_ENDINGS)} are read")
    companions = {}
    for field, columns in COMPANION_COLUMNS.items():
        found = next((row[column] for column in columns if row.get(column)), None)
        if found is not None:
            beside = table.sources / f".{field}"
            companions[field] = _written(_file(found, table, stem_of(file.name)), beside)
    return Item(_written(file, table.sources), file.name, None, **companions)


def _file(cell: object, table: Table, unnamed: str, *, taken: Container[str] = frozenset()) -> File:
    """A cell's file and its name. Raises UserError for what is no file."""
    if isinstance(cell, str):
        cell = {"path": cell, "bytes": None}
    if not isinstance(cell, dict) or not {"path", "bytes"} <= cell.keys():
        raise UserError(f"{str(cell)[:40]!r} is no clip or still")
    found = cell["bytes"]
    content = found if isinstance(found, bytes) and found else _existing(cell["path"], table)
    name = _name(content if isinstance(content, Path) else Path(cell["path"] or ""), table)
    name = name or unnamed
    if not PurePath(name).suffix:
        name += _ending(content.read_bytes() if isinstance(content, Path) else content)
    if stem_of(name) in taken:  # a repository may have lost the folders of its files
        name = f"{stem_of(name)}-{unnamed}{PurePath(name).suffix}"
    return File(name, content)


def _existing(said: str | None, table: Table) -> Path:
    """A file by its path in the data set's folder, else from here."""
    for root in (table.root, Path()):
        if said and root is not None and (root / said).is_file():
            return root / said
    raise UserError(f"{said}: there is no such file" if said else "an empty file")


def _name(path: Path, table: Table) -> str:
    """The name of a file in the data set; one from elsewhere has only its own."""
    if table.root is not None and path.is_absolute():
        root = table.root.resolve()
        path = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    elif path.is_absolute():
        path = Path(path.name)
    elif table.root is not None and path.is_relative_to(table.root):
        path = path.relative_to(table.root)
    parts = [part.lstrip(".") for part in path.parts]  # no way out of a folder, nothing hidden
    return plain_name("/".join(part for part in parts if part))


def _ending(head: bytes) -> str:
    return next((ending for at, known, ending in HEADS if head[at:].startswith(known)), "")


def _written(file: File, folder: Path) -> Path:
    """Where a file lies; bytes are written, unless they are there already."""
    if isinstance(file.content, Path):
        return file.content
    path = folder / file.name
    if not (path.is_file() and path.read_bytes() == file.content):
        with unfinished(path) as part:
            part.write_bytes(file.content)
    return path


def _caption(row: Mapping[str, object], column: str) -> str | None:
    """A row's caption. Raises UserError for what is no text."""
    caption = row.get(column)
    if caption is not None and not isinstance(caption, str):
        raise UserError(f"{column} is {str(caption)[:40]!r}; text is wanted")
    return (caption or "").strip() or None
