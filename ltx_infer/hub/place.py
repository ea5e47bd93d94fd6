"""Where files are: a folder of this machine, or a repository of the hub, listed without fetching.

What is in the hub's cache is not fetched again, and is enough where the hub cannot be reached.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ltx_infer.hub.errors import explained
from ltx_models.converted.layout import LORAS, UPSCALERS
from ltx_models.converted.plan import size_text

# A name with a dot in front is a path; what ends in .safetensors is a file.
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.safetensors)")
# Of a folder only what may be wanted: it can be somebody's home.
PATTERNS = (
    "*.safetensors",
    "*.json",
    "*/*.json",
    "*/model*.safetensors",
    f"{UPSCALERS}/*.safetensors",
    f"{LORAS}/**/*.safetensors",
)


@dataclass(frozen=True)
class Place:
    """Files by their names within it, and how many bytes each has, as far as that is known."""

    at: str  # the folder's path, or user/repo
    sizes: Mapping[str, int | None]
    folder: Path  # where they lie; of a repository, where those that were fetched lie
    commit: str | None = None  # of a repository; None: a folder of this machine

    @property
    def names(self) -> list[str]:
        """What there is, in order."""
        return list(self.sizes)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where the hub does not say."""
        return (self.folder / name).stat().st_size if self.commit is None else self.sizes[name]

    def __str__(self) -> str:
        """As a message names it."""
        return self.at


@dataclass(frozen=True)
class Wanted:
    """Some files of a place, and the flag that asked for them."""

    place: Place
    names: tuple[str, ...]
    flag: str = "--model"


def is_repository(text: str) -> bool:
    """Whether a name can be a repository's: user/repo."""
    return REPOSITORY.fullmatch(text) is not None


def folder_place(folder: Path) -> Place:
    """The files of a folder that may be a model's."""
    there = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(folder).as_posix() for path in there)
    return Place(str(folder), dict.fromkeys(names), folder)


def repository_place(name: str, *, flag: str) -> Place:
    """What the hub lists of a repository, asked once a process; where it cannot be, the cache.

    Raises UserError for one that is not there, or that cannot be read.
    """
    from huggingface_hub import constants, get_token  # noqa: PLC0415

    with explained(name, flag=flag):
        return _listed(name, constants.ENDPOINT, get_token())


@cache
def _listed(name: str, _endpoint: str, _token: str | None) -> Place:
    from httpx2 import TransportError  # noqa: PLC0415
    from huggingface_hub import HfApi, constants  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled  # noqa: PLC0415
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    try:
        info = HfApi().model_info(name, files_metadata=True)
    except (TransportError, OfflineModeIsEnabled, HfHubHTTPError):
        if (place := _cached(name, cached)) is None:
            raise
        return place
    sizes = {each.rfilename: each.size for each in info.siblings or []}
    commit = str(info.sha)
    return Place(name, dict(sorted(sizes.items())), cached / "snapshots" / commit, commit)


def _cached(name: str, cached: Path) -> Place | None:
    """What an earlier run has fetched of a repository's main branch."""
    ref = cached / "refs" / "main"
    if not ref.is_file():
        return None
    commit = ref.read_text().strip()
    folder = cached / "snapshots" / commit
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return Place(name, dict.fromkeys(names), folder, commit) if names else None


def shown_size(size: int | None) -> str:
    """Bytes as a person reads them."""
    return "unknown size" if size is None else size_text(size)
