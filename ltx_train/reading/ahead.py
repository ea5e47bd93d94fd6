"""Files decoded by worker processes while the network encodes what was decoded before.

Each worker holds one result, in a temporary file that has no name, so nothing can be left behind
however a run ends. Workers are started as plain commands: a script that calls us need not guard
its ``__main__``, and a worker whose parent is gone sees its stdin end.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from selectors import EVENT_READ, DefaultSelector
from typing import IO, NamedTuple, TypeVar

import mlx.core as mx
import numpy as np
import psutil

from ltx_train.reading.decode import Decoded, Job

T = TypeVar("T")
MAX_WORKERS = 4
MEMORY_SHARE = 8  # decoded ahead is at most one part in so many
START = """import sys
sys.path[:] = {path!r}
from ltx_train.reading.worker import serve
serve({number})"""


class Worker(NamedTuple):
    """A process and the file that it writes its arrays to."""

    process: subprocess.Popen[bytes]
    file: IO[bytes]


class Result(NamedTuple):
    """What a worker answered, and its array."""

    decoded: Decoded
    array: mx.array | None


def num_workers(num_bytes: int) -> int:
    """How many clips of a size are decoded ahead: what the processors and the memory allow."""
    processors = max((os.cpu_count() or 1) - 1, 1)
    room = psutil.virtual_memory().total // MEMORY_SHARE // max(num_bytes, 1)
    return max(min(processors, room, MAX_WORKERS), 1)


@contextmanager
def worker_pool() -> Iterator[list[Worker]]:
    """Workers for ``decode_ahead``, which starts them; none is left at the end of the block."""
    pool: list[Worker] = []
    try:
        yield pool
    finally:
        for worker in pool:
            _end(worker)


def decode_ahead(
    jobs: Iterable[tuple[T, Job]], pool: list[Worker], *, most: int
) -> Iterator[tuple[T, Result]]:
    """Results in the order in which they are ready, each with what came with its job.

    At most so many workers are busy; jobs are taken as they get free. One that dies fails its job,
    and another follows it.
    """
    pending = iter(jobs)
    with DefaultSelector() as busy:
        for i, (tag, job) in enumerate(islice(pending, most)):
            if i == len(pool):
                pool.append(_start())
            _give(job, tag, pool[i], busy)
        while busy.get_map():
            for key, _ in busy.select():
                worker, tag = key.data
                busy.unregister(key.fileobj)
                result = _collect(worker)
                if result is None:
                    pool.remove(worker)
                    result = Result(Decoded(fault=_how_it_ended(worker)), None)
                    pool.append(worker := _start())
                for following, job in islice(pending, 1):
                    _give(job, following, worker, busy)
                yield tag, result


def _start() -> Worker:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (_end closes it)
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(path=sys.path, number=file.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[file.fileno()],
        start_new_session=True,  # so that Ctrl-C reaches the run alone, which ends its workers
        env={**os.environ, "LTX_BLAS": "none"},
    )
    return Worker(process, file)


def _give(job: Job, tag: object, worker: Worker, busy: DefaultSelector) -> None:
    assert worker.process.stdin is not None
    assert worker.process.stdout is not None
    with suppress(BrokenPipeError):  # its answer, which will not come, says so
        os.write(worker.process.stdin.fileno(), pickle.dumps(job))
    busy.register(worker.process.stdout, EVENT_READ, (worker, tag))


def _collect(worker: Worker) -> Result | None:
    """The worker's answer, with its array taken out of its file; None if it died."""
    assert worker.process.stdout is not None
    try:
        decoded: Decoded = pickle.load(worker.process.stdout)
    except (EOFError, pickle.UnpicklingError):
        return None
    if not decoded.shape:
        return Result(decoded, None)
    mapped = np.memmap(worker.file, np.float32, "r", shape=decoded.shape)
    return Result(decoded, mx.array(mapped))


def _how_it_ended(worker: Worker) -> str:
    """In words, of a worker that ended by itself."""
    code = worker.process.wait()
    _end(worker)
    if code < 0:
        return f"the process that read it was ended by {signal.Signals(-code).name}"
    return f"the process that read it ended with exit code {code}"


def _end(worker: Worker) -> None:
    worker.process.kill()
    worker.process.communicate()  # closes its pipes
    worker.file.close()
