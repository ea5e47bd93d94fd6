"""What a WAV says of itself: a LIST chunk, as players and FFmpeg read it."""

import os
import struct
from pathlib import Path

HEAD = 8  # bytes of a chunk's name and size, which the size does not count


def append_comment(wav: Path, comment: str) -> None:
    """Put a chunk with the comment behind the samples of a WAV."""
    text = comment.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    entry = b"INFOICMT" + struct.pack("<I", len(text)) + text
    chunk = b"LIST" + struct.pack("<I", len(entry)) + entry
    with wav.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(chunk)
        file.seek(len(b"RIFF"))
        file.write(struct.pack("<I", size + len(chunk) - HEAD))
