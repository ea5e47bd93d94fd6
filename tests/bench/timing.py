"""Times of several functions in one run, taken in turns so that drift hits all alike."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

ROUNDS = 7


def interleaved_medians(functions: Sequence[Callable[[], object]]) -> list[float]:
    """The median seconds of each function over 7 rounds, after one that is not counted.

    A function evaluates what it computes.
    """
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS + 1):
        for taken, function in zip(seconds, functions, strict=True):
            start = perf_counter()
            function()
            taken.append(perf_counter() - start)
    return [median(taken[1:]) for taken in seconds]
