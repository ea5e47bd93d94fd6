"""Media files opened for reading, their tracks, and what is said when they cannot be read.

PyAV is imported when a file is opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ltx_models.errors import UserError

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer

PICTURES = (".png", ".gif", ".jpg", ".jpeg")  # whose comments Pillow reads, FFmpeg does not


@contextmanager
def open_input(path: Path) -> Iterator["InputContainer"]:
    """A media file, closed at the end of the block; FFmpeg's errors become a UserError.

    Raises UserError for what is missing, a folder, empty, or no video and no sound.
    """
    import av  # noqa: PLC0415
    from av.error import FFmpegError, InvalidDataError  # noqa: PLC0415

    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    if path.is_file() and not path.stat().st_size:
        raise UserError(f"{path}: the file is empty")
    try:
        # Without "file:" a colon in a name would be read as the end of a protocol's.
        with av.open(f"file:{path}") as container:
            yield container
    except InvalidDataError as error:
        raise UserError(f"{path}: not a video or sound that can be read, or damaged") from error
    except FFmpegError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def find_picture(container: "InputContainer") -> "VideoStream | None":
    """The first track of moving pictures, or None; the cover of a song is not one."""
    from av.stream import Disposition  # noqa: PLC0415

    tracks = container.streams.video
    return next((t for t in tracks if not t.disposition & Disposition.attached_pic), None)


def picture_track(container: "InputContainer", path: Path) -> "VideoStream":
    """The first track of moving pictures. Raises UserError for sound alone and for a still."""
    track = find_picture(container)
    if track is None:
        raise UserError(f"{path}: has no picture, only sound")
    if container.format.name.endswith("_pipe"):  # FFmpeg's word for a single image's file
        raise UserError(f"{path}: is a picture, not a video")
    return track


def sound_track(container: "InputContainer", path: Path) -> "AudioStream":
    """The first track of sound. Raises UserError if there is none."""
    if not container.streams.audio:
        raise UserError(f"{path}: has no sound")
    return container.streams.audio[0]


def read_comment(path: Path) -> str | None:
    """The comment of a clip, a sound or a picture; None where there is none.

    Containers differ in how they write the word. Raises UserError as ``open_input``.
    """
    if path.suffix.lower() in PICTURES and path.is_file():
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

        try:
            with Image.open(path) as image:
                said = image.info.get("comment")
                return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        except (UnidentifiedImageError, OSError):
            raise UserError(f"{path}: not a picture that can be read, or damaged") from None
    with open_input(path) as container:
        return next(
            (value for key, value in container.metadata.items() if key.lower() == "comment"), None
        )
