"""Frames that are encoded in a thread of its own while later ones are computed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue

import numpy as np

LOOK = 0.1  # seconds between looks whether the writer has failed, while it takes nothing
_Passed = np.ndarray | BaseException | None  # a chunk, what ends the frames badly, or their end


def write_beside(write: Callable[[Iterator[np.ndarray]], int], frames: Iterable[np.ndarray]) -> int:
    """What ``write`` gives for the frames' chunks, which are made here meanwhile, two ahead of it.

    MLX stays in this thread. What ``write`` raises is raised here; what making frames raises, or
    Ctrl-C, ends the frames for ``write`` with the same exception, so that it leaves no file.
    """
    passed: Queue[_Passed] = Queue(maxsize=1)
    with ThreadPoolExecutor(max_workers=1) as pool:
        writing = pool.submit(write, _chunks(passed))
        try:
            for chunk in frames:
                if not _put(passed, chunk, writing):
                    break
            _put(passed, None, writing)
        except BaseException as error:
            _put(passed, error, writing)
            raise
    return writing.result()


def _chunks(passed: "Queue[_Passed]") -> Iterator[np.ndarray]:
    while (chunk := passed.get()) is not None:
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk
        del chunk  # or two would be here while the next one is waited for


def _put(passed: "Queue[_Passed]", what: _Passed, writing: "Future[int]") -> bool:
    """Pass on when there is room; False when nobody takes it any more."""
    while not writing.done():
        try:
            passed.put(what, timeout=LOOK)
        except Full:
            continue
        return True
    return False
