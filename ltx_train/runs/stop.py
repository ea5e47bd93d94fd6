"""Ctrl-C and SIGTERM in a run: the first one asks for an end, a second one is it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_BY_SIGNAL = 128
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """What was asked for so far: the signal's number, or none."""

    number: int | None = None

    def raise_if_asked(self) -> None:
        """Raise KeyboardInterrupt with the number, which ``run_command`` ends the process by."""
        if self.number is not None:
            raise KeyboardInterrupt(self.number)


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Stop]:
    """Take the signals while the block runs; a second one ends the process where it stands.

    A step may take minutes in which no Python runs, so a thread reads from a pipe what arrives.
    For the main thread only, as are signals.
    """
    stop = Stop()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def ask(number: int, _frame: object) -> None:
        stop.number = stop.number or number

    def watch() -> None:
        is_first = True
        while received := os.read(reader, 1):
            if (number := received[0]) not in SIGNALS:
                continue
            if not is_first:
                os._exit(EXIT_BY_SIGNAL + number)
            is_first = False
            say("stopping: this step is finished and saved; once more, and it ends at once")

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    pipe_before = signal.set_wakeup_fd(writer)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)
