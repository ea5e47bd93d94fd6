"""The files of a folder and its subfolders, by their names."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePath

from ltx_models.errors import UserError, reason
from ltx_train.inputs.item import Outcome, plain_name

NOT_TEXT = ("Cs", "Cc")  # bytes that are no UTF-8, and control characters


def list_files(
    folder: Path, *, flag: str, leave_out: Sequence[Path] = ()
) -> tuple[dict[str, Path], list[Outcome]]:
    """The files of a folder by their names in it, sorted, and the outcome of what is none.

    Hidden files are passed over, and those in ``leave_out`` where that is a subfolder. Raises
    UserError, which names ``flag``, if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{flag} {folder}: there is no such folder")
    apart = {path.resolve() for path in leave_out}
    files: dict[str, Path] = {}
    outcomes: list[Outcome] = []

    def unread(error: OSError) -> None:
        name = PurePath(error.filename).relative_to(folder)
        outcomes.append(Outcome(plain_name(name), "failed", f"cannot be read: {reason(error)}"))

    for place, folders, names in os.walk(folder, onerror=unread):
        inner = Path(place)
        seen = [name for name in sorted(folders) if not name.startswith(".")]
        links = [name for name in seen if (inner / name).is_symlink()]
        folders[:] = [
            name for name in seen if name not in links and (inner / name).resolve() not in apart
        ]
        outcomes += [_passed_over(inner / link, folder, "a link to a folder") for link in links]
        for name in (name for name in sorted(names) if not name.startswith(".")):
            _add(inner / name, folder, files, outcomes)
    return dict(sorted(files.items())), outcomes


def _add(path: Path, folder: Path, files: dict[str, Path], outcomes: list[Outcome]) -> None:
    """Put a file under its name, or what is wrong with it into ``outcomes``."""
    name = plain_name(path.relative_to(folder))
    if any(unicodedata.category(letter) in NOT_TEXT for letter in name):
        shown = name.encode("utf-8", "backslashreplace").decode()
        outcomes.append(Outcome(shown, "failed", "its name is not readable text; rename it"))
    elif not path.is_file():
        broken = path.is_symlink()
        outcomes.append(_passed_over(path, folder, "a link to nothing" if broken else "no file"))
    elif name in files:
        outcomes.append(Outcome(name, "failed", "two files have this name; rename one"))
    else:
        files[name] = path


def _passed_over(path: Path, folder: Path, why: str) -> Outcome:
    return Outcome(plain_name(path.relative_to(folder)), "skipped", why)
