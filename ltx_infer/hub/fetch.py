"""Files of repositories into the hub's cache: listed with their sizes first, and resumable.

The layout of the cache is huggingface_hub's, which finds there what is fetched here. Its own
function for a file keeps nothing of one that was not finished; of files of tens of gigabytes that
is too much to lose. So bytes are put, by its function for that, into a file that stays.
"""

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ltx_infer.hub.errors import explained
from ltx_infer.hub.place import Place, Wanted, shown_size
from ltx_models.errors import UserError, printable

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata

Say = Callable[[str], None]
SHA256 = re.compile(r"[0-9a-f]{64}")
TRIES = 5  # in a row that bring no byte
READ = 1 << 22  # bytes at once


class File(NamedTuple):
    """One file to fetch."""

    wanted: Wanted
    name: str
    size: int | None
    about: "HfFileMetadata"

    @property
    def blob(self) -> Path:
        """Its content's place in the cache; where one has been begun, that is beside it."""
        return self.wanted.place.folder.parents[1] / "blobs" / str(self.about.etag)

    @property
    def unfinished(self) -> Path:
        """What there is of it."""
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    @property
    def left(self) -> int:
        """Bytes that are yet to come."""
        begun = self.unfinished.stat().st_size if self.unfinished.is_file() else 0
        return max((self.size or 0) - begun, 0)


def to_stderr(line: str) -> None:
    """Say a line where nobody else does: a download is never silent."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def take(
    place: Place, names: Sequence[str], *, flag: str = "--model", say: Say = to_stderr
) -> Path:
    """The folder that has these files of a place, which are fetched if need be."""
    fetch([Wanted(place, tuple(names), flag)], say=say)
    return place.folder


def fetch(wanted: Sequence[Wanted], *, say: Say = to_stderr) -> int:
    """Fetch what is not here, after a list of it; returns how many files that were.

    Raises UserError before the first byte for a file that may not be read, or a disk without the
    room; and for a connection that is gone, whereupon the next run goes on from there.
    """
    files = [file for each in wanted for file in _missing(each)]
    coming = [file for file in files if not file.blob.exists()]  # others changed their place only
    for line in _announced(coming):
        say(line)
    _check_disk(coming)
    for file in files:
        with explained(file.wanted.place.at, flag=file.wanted.flag):
            _fetch_file(file)
    return len(coming)


def to_fetch(wanted: Sequence[Wanted]) -> list[str]:
    """What ``fetch`` would fetch, in lines; none where all is here."""
    files = [file for each in wanted for file in _missing(each)]
    return _announced([file for file in files if not file.blob.exists()])


def _missing(wanted: Wanted) -> list[File]:
    """Files that are not in the cache, with what the hub says of each."""
    place = wanted.place
    if place.commit is None:
        return []
    names = [name for name in wanted.names if not (place.folder / name).is_file()]
    with explained(place.at, flag=wanted.flag):
        return [_ask(wanted, name) for name in dict.fromkeys(names)]


def _ask(wanted: Wanted, name: str) -> File:
    from huggingface_hub import get_hf_file_metadata  # noqa: PLC0415

    about = get_hf_file_metadata(_address(wanted.place, name), token=_token())
    sizes = [size for size in (wanted.place.sizes[name], about.size) if size is not None]
    return File(wanted, name, max(sizes, default=None), about)


def _announced(files: Sequence[File]) -> list[str]:
    """What is to be fetched, a line for each repository and each file."""
    lines = []
    for place in dict.fromkeys(file.wanted.place.at for file in files):
        own = [file for file in files if file.wanted.place.at == place]
        total = sum(file.size or 0 for file in own)
        count = "1 file" if len(own) == 1 else f"{len(own)} files"
        lines.append(f"to fetch from {place}: {count}, {shown_size(total)}")
        for file in own:
            begun = (file.size or 0) - file.left
            here = f", {shown_size(begun)} of it here" if begun else ""
            lines.append(f"  {file.name}: {shown_size(file.size)}{here}")
    return lines


def _check_disk(files: Sequence[File]) -> None:
    """Raise UserError unless the disk of the cache has room for all of it."""
    from huggingface_hub import constants  # noqa: PLC0415

    cache = Path(constants.HF_HUB_CACHE)
    there = next(path for path in (cache, *cache.parents) if path.exists())
    need, free = sum(file.left for file in files), shutil.disk_usage(there).free
    if need > free:
        raise UserError(
            f"{cache}: {shown_size(need)} ({need} bytes) are to be fetched, and {shown_size(free)} "
            f"({free} bytes) are free there.\n"
            "Make room, or name a folder of another disk with HF_HOME. Nothing was fetched"
        )


def _fetch_file(file: File) -> None:
    """One file into the cache, and its name into the snapshot's folder."""
    from huggingface_hub import constants, hf_hub_download  # noqa: PLC0415
    from huggingface_hub.utils import WeakFileLock  # noqa: PLC0415

    place = file.wanted.place
    if file.size is not None and file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
        file.blob.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(file.blob.with_name(f"{file.blob.name}.incomplete.lock")):
            if not file.blob.exists():
                _fetch_blob(file)
    hf_hub_download(place.at, file.name, revision=place.commit, token=_token())
    ref = file.wanted.place.folder.parents[1] / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(str(place.commit))


def _fetch_blob(file: File) -> None:
    """The content of a file, from where an earlier run stopped; checked where there was one."""
    begun = file.unfinished.stat().st_size if file.unfinished.is_file() else 0
    with file.unfinished.open("ab") as into:
        _fetch_rest(file, into)
    if begun and not _is_whole(file):
        file.unfinished.unlink()
        raise UserError(
            f"{file.wanted.flag} {file.wanted.place}: {file.name} is damaged, as an earlier run "
            "had left it, and was removed; run the command again"
        )
    file.unfinished.replace(file.blob)


def _fetch_rest(file: File, into: BinaryIO) -> None:
    """What is missing of a file, in as many goes as bring something."""
    from httpx2 import TransportError  # noqa: PLC0415
    from huggingface_hub.file_download import http_get  # noqa: PLC0415
    from huggingface_hub.utils import build_hf_headers  # noqa: PLC0415

    headers = {**build_hf_headers(token=_token()), "Accept-Encoding": "identity"}
    tries = TRIES
    while True:
        before = into.tell()
        try:
            http_get(
                _address(file.wanted.place, file.name),
                into,
                resume_size=before,
                headers=headers,
                expected_size=file.about.size,
                displayed_filename=file.name,
            )
        except TransportError as error:
            into.flush()
            tries = TRIES if into.tell() > before else tries - 1
            if tries == 0:
                raise _cut(file, error) from None
        else:
            return


def _cut(file: File, error: Exception) -> UserError:
    here = (file.size or 0) - file.left
    return UserError(
        f"{file.wanted.flag} {file.wanted.place}: the connection was lost with {shown_size(here)} "
        f"of {shown_size(file.size)} of {file.name} here ({printable(error)}).\n"
        "The same command goes on from there"
    )


def _is_whole(file: File) -> bool:
    """Whether the content has the hash that large files are named by; small ones have another."""
    if not SHA256.fullmatch(str(file.about.etag)):
        return True
    found = hashlib.sha256()
    with file.unfinished.open("rb") as content:
        while part := content.read(READ):
            found.update(part)
    return found.hexdigest() == file.about.etag


def _address(place: Place, name: str) -> str:
    from huggingface_hub import hf_hub_url  # noqa: PLC0415

    return hf_hub_url(place.at, name, revision=place.commit)


def _token() -> str | None:
    """Of HF_TOKEN, else of ``hf auth login``."""
    from huggingface_hub import get_token  # noqa: PLC0415

    return get_token()
