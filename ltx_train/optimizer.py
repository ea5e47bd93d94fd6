"""AdamW as PyTorch computes it, clipping by the global norm, and an average over the steps.

Functions without state of their own, so that a step can be compiled and what it changes be
written to a file as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import mlx.core as mx

Tensors = dict[str, mx.array]
Pair = tuple[mx.array, mx.array]
BETA_1, BETA_2, EPS, WEIGHT_DECAY = 0.9, 0.999, 1e-8, 0.01
CLIP_EPS = 1e-6  # PyTorch's, so that the norm after clipping is a little below the limit


MOST_RUNS, LEAST_RUN = 32, 1 << 16  # about as many joined arrays, of so many values at least


class Moments(NamedTuple):
    """Running means of the gradient and of its square, by name."""

    first: Tensors
    second: Tensors


def new_moments(parameters: Mapping[str, mx.array]) -> Moments:
    """Zeros, as before the first update."""
    return Moments(*({name: mx.zeros_like(x) for name, x in parameters.items()} for _ in range(2)))


def global_norm(grads: Tensors) -> mx.array:
    """The joint norm () of all gradients."""
    squares = [grads[name].square().sum() for name in sorted(grads)]
    return mx.sqrt(mx.stack(squares).sum())


def clip_factor(norm: mx.array, max_norm: float) -> mx.array:
    """What gradients of a norm () are multiplied by, so that it is at most ``max_norm``."""
    return mx.minimum(max_norm / (norm + CLIP_EPS), 1)


def in_runs(
    change: Callable[[Sequence[mx.array]], Sequence[mx.array]], groups: Sequence[Tensors]
) -> list[Tensors]:
    """Change tensors of the same names and shapes, joined along their first axis into a few.

    ``change`` takes one array of each group, and gives some of its shape. An adapter has a thousand
    small tensors, and what is done to each would take longer to start than to do. One run waits for
    the one before, so that not all need room at once besides their results.
    """
    like, before = groups[0], []
    results: list[Tensors] = []
    for names in _runs(like):
        given = [group[name] for group in groups for name in names]
        given = mx.depends(given, before) if before else given
        count = len(names)
        joined = [mx.concatenate(given[i : i + count]) for i in range(0, len(given), count)]
        before = list(change(joined))
        results = results or [{} for _ in before]
        ends = list(accumulate(len(like[name]) for name in names))[:-1]
        for result, changed in zip(results, before, strict=True):
            result |= zip(names, mx.split(changed, ends), strict=True)
    return results


def _runs(tensors: Tensors) -> list[list[str]]:
    """Names of what fits together but for the first axis, in an order that is always the same."""
    length = max(LEAST_RUN, sum(x.size for x in tensors.values()) // MOST_RUNS)
    runs: list[list[str]] = []
    size, width = 0, None
    for name in sorted(tensors, key=lambda name: (tensors[name].shape[1:], name)):
        x = tensors[name]
        size += x.size
        if x.shape[1:] != width or size > length:
            runs.append([])
            size, width = x.size, x.shape[1:]
        runs[-1].append(name)
    return runs


class Factors(NamedTuple):
    """What an update has in common for all tensors; each ()."""

    step: mx.array  # rate / (1 - b1^n)
    root: mx.array  # 1 / sqrt(1 - b2^n)
    keep: mx.array  # 1 - rate * decay


def adamw_factors(updates: mx.array, rate: mx.array) -> Factors:
    """Of update number ``updates`` (), from 1, at a learning rate ()."""
    count = updates.astype(mx.float32)
    step = rate / _one_minus_power(BETA_1, count)
    return Factors(step, mx.rsqrt(_one_minus_power(BETA_2, count)), 1 - rate * WEIGHT_DECAY)


def adamw(x: mx.array, grad: mx.array, moments: Pair, factors: Factors) -> tuple[mx.array, Pair]:
    """One update of x, and of the running means of its gradient and of the gradient's square.

    x <- x (1 - rate decay) - rate m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)
    """
    first = BETA_1 * moments[0] + (1 - BETA_1) * grad
    second = BETA_2 * moments[1] + (1 - BETA_2) * grad.square()
    quotient = first / (mx.sqrt(second) * factors.root + EPS)
    return x * factors.keep - factors.step * quotient, (first, second)


def average_keep(updates: mx.array, decay: float) -> mx.array:
    """How much () an exponential moving average keeps at update number ``updates`` (), from 1.

    It starts with a shorter memory, as (1 + n) / (10 + n), so that the first steps fade.
    """
    count = updates.astype(mx.float32)
    return mx.minimum(decay, (1 + count) / (10 + count))


def _one_minus_power(base: float, count: mx.array) -> mx.array:
    """1 - base^count without the digits that float32 loses at a base near 1."""
    return -mx.expm1(count * math.log(base))
