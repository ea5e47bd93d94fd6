"""Text as people save it: UTF-8, with or without a mark in front."""

from pathlib import Path

from ltx_models.errors import UserError, reason


def read_text(path: Path) -> str:
    """A text file with one kind of line end. Raises UserError for what is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text; save it as such") from error
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {reason(error)}") from error
    if "\0" in text:
        raise UserError(f"{path.name} is not text")
    return text


def caption_beside(text: Path | None) -> tuple[str | None, str]:
    """The caption in a text file, None if there is none; and what is wrong with it."""
    if text is None:
        return None, ""
    try:
        caption = read_text(text).strip()
    except UserError as error:
        return None, str(error)
    return (caption, "") if caption else (None, f"{text.name} is empty")
