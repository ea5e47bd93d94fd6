"""Worker processes: what they bring, what becomes of those that die, and that none stays."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from ltx_train.reading import ahead
from ltx_train.reading.ahead import decode_ahead, num_workers, worker_pool
from ltx_train.reading.decode import Job
from tests.train.reading.media import still_frames, write

FPS = Fraction(24)


def job(path: Path) -> Job:
    return Job("frames", path, 9, FPS, height=32, width=64)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    return [
        write(tmp_path / f"{i}.mkv", still_frames(9, grey=20 * i), caption=None) for i in range(5)
    ]


@pytest.mark.parametrize("workers", [1, 8])
def test_every_job_comes_back_with_its_own(clips, workers):
    with worker_pool() as pool:
        results = decode_ahead(((path.stem, job(path)) for path in clips), pool, most=workers)
        found = dict(results)
    assert len(found) == 5
    for i, path in enumerate(clips):
        array = found[path.stem].array
        assert array.shape == (9, 3, 32, 64)
        assert np.allclose(np.array(array), 20 * i / 127.5 - 1, atol=1e-6)
    assert not children()


def test_nothing_to_do():
    with worker_pool() as pool:
        results = decode_ahead([], pool, most=2)
        assert list(results) == []


def test_jobs_are_taken_as_workers_get_free(clips):
    taken = []

    def jobs():
        for path in clips:
            taken.append(path)
            yield path, job(path)

    with worker_pool() as pool:
        results = decode_ahead(jobs(), pool, most=2)
        next(results)
        assert len(pool) == 2
        assert len(taken) == 3


def test_a_worker_that_dies_fails_its_job_alone(clips, tmp_path):
    """Killed as a decoder's segmentation fault kills it, while it waits for a file that hangs."""
    hanging = tmp_path / "hanging.mp4"
    os.mkfifo(hanging)
    paths = [clips[0], hanging, *clips[1:]]
    with worker_pool() as pool:
        results = decode_ahead(((path.stem, job(path)) for path in paths), pool, most=2)
        found = {}
        for name, result in results:
            found[name] = result
            if len(found) == 5:  # only the one that hangs is left; the other worker is idle
                for child in children():
                    child.send_signal(signal.SIGSEGV)
    assert found["hanging"].decoded.fault == "the process that read it was ended by SIGSEGV"
    assert [found[path.stem].decoded.fault for path in clips] == [""] * 5
    assert not children()


def test_after_a_death_the_next_job_gets_a_new_worker(clips, monkeypatch):
    monkeypatch.setattr(ahead, "START", "import sys; sys.stdin.buffer.read(1); sys.exit(7)")
    with worker_pool() as pool:
        results = decode_ahead(((path.stem, job(path)) for path in clips), pool, most=1)
        faults = [result.decoded.fault for _, result in results]
    assert faults == ["the process that read it ended with exit code 7"] * 5


def test_what_a_decoder_prints_does_not_come_in_between(clips, monkeypatch):
    start = ahead.START.replace(
        "serve({number})",
        "import ltx_train.reading.worker as w; d = w.decode\n"
        "w.decode = lambda *a: (print('noise', flush=True), d(*a))[1]\nserve({number})",
    )
    monkeypatch.setattr(ahead, "START", start)
    with worker_pool() as pool:
        results = decode_ahead([("a", job(clips[0]))], pool, most=1)
        ((_, result),) = results
    assert result.decoded.fault == ""


def test_no_process_stays_after_an_error(clips):
    def stopped() -> None:
        with worker_pool() as pool:
            results = decode_ahead(((path, job(path)) for path in clips), pool, most=2)
            next(results)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not children()


RUN = """
from fractions import Fraction
from pathlib import Path
import sys, time
from ltx_train.reading.ahead import decode_ahead, worker_pool
from ltx_train.reading.decode import Job
jobs = [(p, Job("frames", Path(p), 9, Fraction(24), height=32, width=64)) for p in sys.argv[1:]]
with worker_pool() as pool:
    results = decode_ahead(jobs, pool, most=2)
    next(results)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_of_a_run_that_is_ended(clips, tmp_path, number):
    """Workers see that their run is gone, and their files have no names."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, clips)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == b"ready\n"
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.send_signal(number)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert list(folder.iterdir()) == []


def test_what_the_memory_allows():
    assert num_workers(1) == min(max(os.cpu_count() - 1, 1), ahead.MAX_WORKERS)
    assert num_workers(psutil.virtual_memory().total) == 1
