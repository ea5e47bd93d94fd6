"""A folder with captions beside the clips, and a prompts file: to items."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ltx_models.errors import UserError, reason
from ltx_train.inputs.companions import companion_folders
from ltx_train.inputs.folder import list_files
from ltx_train.inputs.item import (
    CAPTION_ENDING,
    MEDIA_ENDINGS,
    SOUND_ENDINGS,
    Item,
    Outcome,
    is_media,
    plain_name,
    stem_of,
)
from ltx_train.inputs.prompts import PROMPTS_ENDINGS, Row, read_rows
from ltx_train.inputs.text import caption_beside
from ltx_train.precompute.config import PrecomputeConfig

NOT_MEDIA = f"no clip or still: {', '.join(MEDIA_ENDINGS)} are read"


class Folder(NamedTuple):
    """What is in the input folder, by names and by names without endings."""

    root: Path | None
    media: Mapping[str, Path]
    by_stem: Mapping[str, str]  # the first name of each
    captions: Mapping[str, Path]
    others: Mapping[str, Path]


def folder_items(config: PrecomputeConfig) -> tuple[list[Item], list[Outcome]]:
    """The items of the input folder and of the prompts file, and the outcome of all else in them.

    A caption is None where there is none. Raises UserError for what concerns all of them.
    """
    folder, outcomes = _read_folder(config)
    items, named = [], set()
    if config.prompts_file is not None:
        rows, outcomes_of_rows = read_rows(
            config.prompts_file,
            caption_column=config.caption_column,
            video_column=config.video_column,
            names=list(folder.media),
        )
        outcomes += outcomes_of_rows
        items, named = _from_rows(rows, folder, config.prompts_file.parent, outcomes)
    items += [Item(path, name) for name, path in folder.media.items() if path not in named]
    outcomes = [outcome for outcome in outcomes if folder.others.get(outcome.name) not in named]
    if not items and not outcomes:
        raise UserError(f"{config.prompts_file}: there is nothing to encode in it")
    texts = [_caption_file(item, folder) for item in items]
    return _with_texts(items, texts, outcomes), outcomes


def _read_folder(config: PrecomputeConfig) -> tuple[Folder, list[Outcome]]:
    """The input folder's clips and captions, and the outcome of its other files."""
    root = config.input_dir
    if root is None:
        return Folder(None, {}, {}, {}, {}), []
    apart = {"--output-dir": config.output_dir}
    apart |= {companion.flag: companion.folder for companion in companion_folders(config)}
    for flag, path in apart.items():
        if path.resolve() == root.resolve():
            raise UserError(f"{flag} {path}: it is --input-dir; name another folder")
    files, outcomes = list_files(root, flag="--input-dir", leave_out=list(apart.values()))
    prompts = config.prompts_file.resolve() if config.prompts_file else None
    files = {name: path for name, path in files.items() if path.resolve() != prompts}
    media = {name: path for name, path in files.items() if is_media(path)}
    if not media:
        raise UserError(f"--input-dir {root}: no clip or still ({', '.join(MEDIA_ENDINGS)}) in it")
    by_stem = {stem_of(name): name for name in reversed(media)}
    captions: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for name, path in files.items():
        is_text = path.suffix.lower() == CAPTION_ENDING and stem_of(name) in by_stem
        if is_text and captions.setdefault(stem_of(name), path) == path:
            continue
        if name not in media:
            others[name] = path
            outcomes.append(Outcome(name, "skipped", _not_media(path)))
    return Folder(root, media, by_stem, captions, others), outcomes


def _not_media(path: Path) -> str:
    """Why a file of the input folder is neither clip nor still nor caption."""
    ending = path.suffix.lower()
    if ending == CAPTION_ENDING:
        return "a caption without its clip"
    if ending in PROMPTS_ENDINGS:
        return "if these are captions, --prompts-file reads them"
    if ending in SOUND_ENDINGS:
        return "sound alone; the column audio of a --prompts-file gives it to a clip"
    return NOT_MEDIA


def _from_rows(
    rows: Sequence[Row], folder: Folder, beside: Path, outcomes: list[Outcome]
) -> tuple[list[Item], set[Path]]:
    """The items that the rows name, each once, and all files that they name.

    What speaks against a row goes to ``outcomes``.
    """
    found: dict[Path, tuple[Item, str]] = {}
    named: set[Path] = set()
    for row in rows:
        try:
            path, name = _media(row, folder, beside)
            named.add(path)
            item = Item(path, name, row.caption, **_companions(row, folder, beside))
        except UserError as error:
            outcomes.append(Outcome(row.media or row.place, "failed", f"{error} ({row.place})"))
            continue
        named.update(path for path in item[3:] if path is not None)
        first, place = found.setdefault(item.path, (item, row.place))
        if place == row.place:
            continue
        if first == item:
            why = f"{item.name} is in {place} too, with the same"
            outcomes.append(Outcome(row.place, "skipped", why))
        else:
            why = f"{item.name} is in {place} too, which is taken; remove one"
            outcomes.append(Outcome(row.place, "failed", why))
    return [item for item, _ in found.values()], named


def _media(row: Row, folder: Folder, beside: Path) -> tuple[Path, str]:
    """The clip or still of a row and its name. Raises UserError for what is not there."""
    if row.media is None:
        raise UserError("it names no clip")
    given = plain_name(row.media)
    name = given if given in folder.media else folder.by_stem.get(given)
    if name is not None:
        return folder.media[name], name
    path = _existing(row.media, folder.root, beside)
    if not is_media(path):
        raise UserError(NOT_MEDIA)
    name = _name(path, folder.root, beside)
    return folder.media.get(name, path), name


def _companions(row: Row, folder: Folder, beside: Path) -> dict[str, Path]:
    """The files that belong to a row's clip. Raises UserError for what is not there."""
    found = {}
    for field, text in row.companions.items():
        try:
            found[field] = _existing(text, folder.root, beside)
        except UserError as error:
            raise UserError(f"{field} {text}: {error}") from error
    return found


def _existing(text: str, *roots: Path | None) -> Path:
    """A file by its path in the first of some folders that has it. Raises UserError if none has."""
    try:
        for root in roots:
            if root is not None and (path := root / text).is_file():
                return path
    except OSError as error:  # a text that is too long for a name
        raise UserError(reason(error)) from error
    raise UserError("there is no such file")


def _name(path: Path, *roots: Path | None) -> str:
    """A file's name in the first folder that it lies in; elsewhere its whole path without root."""
    whole = path.absolute()
    for root in roots:
        if root is not None and whole.is_relative_to(root.absolute()):
            whole = whole.relative_to(root.absolute())
            break
    return plain_name(PurePath(*(p for p in whole.parts if p not in (whole.anchor, ".."))))


def _caption_file(item: Item, folder: Folder) -> Path | None:
    """The text beside a clip."""
    text = item.path.with_suffix(CAPTION_ENDING)
    return folder.captions.get(stem_of(item.name), text if text.is_file() else None)


def _with_texts(
    items: Sequence[Item], texts: Sequence[Path | None], outcomes: list[Outcome]
) -> list[Item]:
    """A row's caption counts; where there is none, the text beside the clip."""
    kept = []
    for item, text in zip(items, texts, strict=True):
        caption, fault = caption_beside(text)
        if item.caption is None and fault:
            outcomes.append(Outcome(item.name, "failed", fault))
        elif item.caption is None:
            kept.append(item._replace(caption=caption))
        else:
            kept.append(item)
            if text is not None and caption != item.caption:
                why = f"the prompts file has another caption for {item.name}, which is taken"
                name = PurePath(item.name).with_name(text.name).as_posix()
                outcomes.append(Outcome(name, "skipped", why))
    return kept
