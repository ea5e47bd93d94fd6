"""Signals while a run is on its way."""

import os
import signal
import subprocess
import sys

import pytest

from ltx_train.runs.stop import stop_requests

TWICE = """\
import os, signal, threading
from ltx_train.runs.stop import stop_requests
with stop_requests(lambda line: print(line, flush=True)):
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    threading.Event().wait()
"""


def test_the_first_signal_asks_for_an_end():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    said: list[str] = []
    with stop_requests(said.append) as stop:
        stop.raise_if_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as asked:
            stop.raise_if_asked()
    assert asked.value.args == (signal.SIGTERM,)
    assert said == ["stopping: this step is finished and saved; once more, and it ends at once"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_second_ends_the_process_whatever_it_does():
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stdout.startswith("stopping: this step is finished and saved")
    assert done.stderr == ""
