"""The one exception that a person, not a programmer, is meant to read; and why a file failed."""


class UserError(Exception):
    """Something the user can put right. The command line prints it without a traceback."""


def reason(error: OSError) -> str:
    """Why a file or folder could not be used, in the words of our messages."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, IsADirectoryError):
        return "is a folder, a file is wanted"
    return (error.strerror or str(error)).lower()
