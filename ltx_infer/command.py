"""What every command line tool here does: how it ends, and what it says to people.

Only what --help needs is imported here.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import NoReturn

from ltx_models.errors import UserError, printable_lines

EXIT_USER_ERROR, EXIT_BY_SIGNAL = 2, 128


class Parser(argparse.ArgumentParser):
    """Faults of a command line are UserErrors, of one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError in place of printing the usage."""
        words = [word for word in message.split() if word.startswith("--")]
        unknown = "unrecognized" in message and words
        near = get_close_matches(words[0], self._option_string_actions, n=1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{message}{hint}")


def run_command(name: str, command: Callable[[], None], *, events: bool = False) -> None:
    """Run a command, and end the process as a command-line tool should where it fails.

    With ``events`` its last one says why, on stdout.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    end = partial(_end, name, events)
    try:
        command()
    except UserError as error:
        end(str(error), error, EXIT_USER_ERROR)
    except BrokenPipeError as error:
        _unheard(name, error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        end(f"{place}{error.strerror or error}", error, EXIT_USER_ERROR)
    except RuntimeError as error:
        from ltx_models.device import explained

        lines = explained(error)
        if lines is None:
            raise
        end(lines, error, EXIT_USER_ERROR)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        end("stopped", error, EXIT_BY_SIGNAL + number)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that no temporary file stays."""
    raise KeyboardInterrupt(number)


def _unheard(name: str, error: BaseException) -> NoReturn:
    """End where nobody reads on, as after ``| head``; what cannot be said is left unsaid."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # or Python would complain as it writes the rest
    try:
        complain("\n".join([f"{name}: nobody reads on", *getattr(error, "__notes__", [])]))
    except BrokenPipeError:
        os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(EXIT_BY_SIGNAL + signal.SIGPIPE)


def _end(name: str, events: bool, line: str, error: BaseException, code: int) -> NoReturn:
    """Say why, and what the exception's notes say, and end the process."""
    lines = "\n".join([line, *getattr(error, "__notes__", [])])
    complain(f"{name}: {lines}")
    if events:
        from ltx_infer.events import tell_end

        tell_end(lines, code)
    sys.exit(code)


def complain(line: str) -> None:
    """To stderr, without control characters."""
    print(printable_lines(line), file=sys.stderr, flush=True)


def require_mlx() -> None:
    """Raise UserError that says what is missing unless MLX can be used."""
    from ltx_models import blas, device

    blas.check()
    device.require_mlx()


def start(say: Callable[[str], None] = complain) -> None:
    """Make MLX ready and say what could be faster, or raise UserError that says what is missing."""
    from ltx_models import device

    require_mlx()
    device.prepare()
    if notice := device.backend_notice():
        say(notice)


def print_line(text: str) -> None:
    """To stdout, which may lack letters that names have."""
    text, encoding = printable_lines(text), sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
