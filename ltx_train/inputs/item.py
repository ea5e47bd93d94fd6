"""A clip or still of a run with what belongs to it, and what became of a file."""

import unicodedata
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

CLIP_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".gif")  # a GIF that does not move is a still
STILL_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif")
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
MEDIA_ENDINGS = CLIP_ENDINGS + STILL_ENDINGS
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


def plain_name(path: PurePath | str) -> str:
    """A name as it is compared and stored: slashes, and each letter with its accent as one.

    macOS stores an accent as a letter of its own where other systems do not.
    """
    text = path.as_posix() if isinstance(path, PurePath) else path
    return unicodedata.normalize("NFC", text)


def stem_of(name: str) -> str:
    """A name without its ending: what belongs together has the same."""
    return PurePath(name).with_suffix("").as_posix()


def is_media(path: PurePath) -> bool:
    """Whether a file's name says that it is a clip or a still."""
    return path.suffix.lower() in MEDIA_ENDINGS
