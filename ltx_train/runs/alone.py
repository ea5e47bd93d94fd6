"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltx_models.errors import UserError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be, while the block runs.

    The lock is the system's, on the folder itself: it leaves no file, and ends with the process,
    however that ends. Raises UserError where another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        _lock(opened, folder)
        yield
    finally:
        os.close(opened)


def _lock(opened: int, folder: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"output_dir {folder}: another run writes to it.\nWait for its end, or name another "
            "folder"
        ) from None
    except OSError:
        return  # a network's disk may know no locks
