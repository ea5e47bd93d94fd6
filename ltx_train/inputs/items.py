"""A folder of clips with captions beside them: what is in it, and what became of each file."""

from pathlib import Path
from typing import Literal, NamedTuple

from ltx_models.errors import UserError

CLIP_ENDINGS = (".mp4", ".mov", ".mkv", ".webm")
CAPTION_ENDING = ".txt"


class Item(NamedTuple):
    """A clip or still, its name in the folder, and what belongs to it."""

    path: Path
    name: str  # with its ending: "boats/red.mp4"
    caption: str | None = None
    audio: Path | None = None  # its sound, where that is not its own
    reference_video: Path | None = None  # for an IC-LoRA
    reference_audio: Path | None = None
    video_mask: Path | None = None  # white is kept, black is made anew
    audio_mask: Path | None = None

    @property
    def stem(self) -> Path:
        """The name without its ending: what its samples are called."""
        return Path(self.name).with_suffix("")


class Outcome(NamedTuple):
    """What became of a file of the folder, and for what is not plainly done, why."""

    name: str
    status: Literal["done", "skipped", "failed"]
    reason: str = ""


def find_clips(folder: Path, *, leave_out: Path) -> tuple[list[Item], list[Outcome]]:
    """The clips with captions of a folder and its subfolders, and the outcome of all other files.

    Hidden files are passed over, and those in ``leave_out`` where that is a subfolder; so are
    captions, which belong to their clips. Raises UserError if the folder has no clip at all.
    """
    if not folder.is_dir():
        raise UserError(f"--input-dir {folder}: there is no such folder")
    if leave_out.resolve() == folder.resolve():
        raise UserError(f"--output-dir {leave_out}: it is --input-dir; name another folder")
    files = [path for path in sorted(folder.rglob("*")) if _counts(path, folder, leave_out)]
    found = [path for path in files if path.suffix.lower() in CLIP_ENDINGS]
    if not found:
        raise UserError(f"--input-dir {folder}: no clip ({', '.join(CLIP_ENDINGS)}) in it")
    captions = {path.with_suffix(CAPTION_ENDING) for path in found}
    outcomes = [
        Outcome(
            str(path.relative_to(folder)),
            "skipped",
            "a caption without its clip"
            if path.suffix == CAPTION_ENDING
            else f"no clip: {', '.join(CLIP_ENDINGS)} are read",
        )
        for path in files
        if path not in captions and path not in found
    ]
    return _with_captions(found, folder, outcomes), outcomes


def _counts(path: Path, folder: Path, leave_out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    written = leave_out.resolve()
    ours = folder.resolve() in written.parents and written in path.resolve().parents
    return path.is_file() and not hidden and not ours


def _with_captions(found: list[Path], folder: Path, outcomes: list[Outcome]) -> list[Item]:
    """The clips to encode; what speaks against one goes to ``outcomes``."""
    clips: dict[Path, Item] = {}
    for path in found:
        name, beside = str(path.relative_to(folder)), path.with_suffix(CAPTION_ENDING)
        if path.with_suffix("") in clips:
            twin = clips[path.with_suffix("")].name
            outcomes.append(Outcome(name, "failed", f"{twin} has the same name; rename one"))
        elif not beside.is_file():
            outcomes.append(Outcome(name, "skipped", f"no caption; {beside.name} is wanted"))
        else:
            caption, fault = _read_caption(beside)
            if fault:
                outcomes.append(Outcome(name, "failed", fault))
            else:
                clips[path.with_suffix("")] = Item(path, name, caption)
    return list(clips.values())


def _read_caption(path: Path) -> tuple[str, str]:
    """The caption, or what is wrong with it."""
    try:
        caption = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        return "", f"{path.name} is not UTF-8 text"
    return caption, "" if caption else f"{path.name} is empty"
