"""Where a file is written: it appears under its name when it is complete, and else not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltx_models.errors import UserError, reason


def check_place(path: Path) -> None:
    """Raise UserError unless a file can be written there; what lies there stays."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, no file can be written there")
    part = _part(path)
    try:
        try:
            part.touch()
        finally:  # Ctrl-C may come in between
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: no file can be written there: {reason(error)}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` whose file takes its place if the block ends well, or else goes."""
    part = _part(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """The temporary name of a file that this process writes."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """FFmpeg's errors, and the disk's, as a UserError that names the file."""
    from av.error import FFmpegError  # noqa: PLC0415

    try:
        yield
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
