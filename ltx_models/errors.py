"""The one exception that a person, not a programmer, is meant to read; and why a file failed."""


class UserError(Exception):
    """Something the user can put right. The command line prints it without a traceback."""


LONGEST = 500  # characters of a text of unknown length in a message


def printable(text: object, *, longest: int = LONGEST) -> str:
    """What a file says, as a message may show it: on one line, and cut where it is very long."""
    said = str(text)
    shown = said if len(said) <= longest else f"{said[:longest]}..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def printable_lines(text: str) -> str:
    """Text for a terminal or a log: its lines whole, and nothing in them that controls either."""
    return "\n".join(printable(line, longest=len(line)) for line in text.split("\n"))


def reason(error: OSError) -> str:
    """Why a file or folder could not be used, in the words of our messages."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, IsADirectoryError):
        return "is a folder, a file is wanted"
    return (error.strerror or str(error)).lower()
