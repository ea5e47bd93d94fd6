"""AdamW as PyTorch computes it, clipping by the global norm, and an average over the steps.

Functions of tensors by name, without state of their own, so that a step can be compiled and what
it changes be written to a file as it is.
"""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import mlx.core as mx

Tensors = dict[str, mx.array]
BETA_1, BETA_2, EPS, WEIGHT_DECAY = 0.9, 0.999, 1e-8, 0.01
CLIP_EPS = 1e-6  # PyTorch's, so that the norm after clipping is a little below the limit


RUN = 1 << 24  # values that are joined for one operation, at most


class Moments(NamedTuple):
    """Running means of the gradient and of its square, by name."""

    first: Tensors
    second: Tensors


def new_moments(parameters: Mapping[str, mx.array]) -> Moments:
    """Zeros, as before the first update."""
    return Moments(*({name: mx.zeros_like(x) for name, x in parameters.items()} for _ in range(2)))


def joined(tensors: Tensors) -> Tensors:
    """The tensors end to end, in the order of their names, as vectors of at most ``RUN`` values.

    An adapter has a thousand small tensors, and what an update does to each would take longer to
    start than to do. A larger tensor is a vector of its own.
    """
    return {
        str(number): mx.concatenate([tensors[name].reshape(-1) for name in names])
        for number, names in enumerate(_runs(tensors))
    }


def parted(vectors: Tensors, like: Tensors) -> Tensors:
    """What ``joined`` made of tensors of the names and shapes of ``like``, as these again."""
    tensors: Tensors = {}
    for vector, names in zip(vectors.values(), _runs(like), strict=True):
        ends = list(accumulate(like[name].size for name in names))
        parts = mx.split(vector, ends[:-1])
        tensors |= {n: part.reshape(like[n].shape) for n, part in zip(names, parts, strict=True)}
    return tensors


def _runs(tensors: Tensors) -> list[list[str]]:
    runs: list[list[str]] = []
    size = RUN
    for name in sorted(tensors):
        size += tensors[name].size
        if size > RUN:
            runs.append([])
            size = tensors[name].size
        runs[-1].append(name)
    return runs


def clip(grads: Tensors, max_norm: float) -> tuple[Tensors, mx.array]:
    """Gradients with a joint norm of at most ``max_norm``, and the norm () that they had."""
    norm = mx.sqrt(mx.stack([grad.square().sum() for grad in grads.values()]).sum())
    factor = mx.minimum(max_norm / (norm + CLIP_EPS), 1)
    return {name: grad * factor for name, grad in grads.items()}, norm


def adamw(
    parameters: Tensors, grads: Tensors, moments: Moments, *, updates: mx.array, rate: mx.array
) -> tuple[Tensors, Moments]:
    """One update; ``updates`` () counts it, from 1, and ``rate`` () is its learning rate.

    p <- p (1 - rate decay) - rate m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)
    """
    first = {n: BETA_1 * moments.first[n] + (1 - BETA_1) * grad for n, grad in grads.items()}
    second = {
        n: BETA_2 * moments.second[n] + (1 - BETA_2) * grad.square() for n, grad in grads.items()
    }
    count = updates.astype(mx.float32)
    step = rate / _one_minus_power(BETA_1, count)
    root = mx.rsqrt(_one_minus_power(BETA_2, count))
    keep = 1 - rate * WEIGHT_DECAY
    new = {
        n: x * keep - step * first[n] / (mx.sqrt(second[n]) * root + EPS)
        for n, x in parameters.items()
    }
    return new, Moments(first, second)


def average(before: Tensors, parameters: Tensors, *, decay: float, updates: mx.array) -> Tensors:
    """The exponential moving average after update number ``updates`` (), from 1.

    It starts with a shorter memory, as (1 + n) / (10 + n), so that the first steps fade.
    """
    count = updates.astype(mx.float32)
    keep = mx.minimum(decay, (1 + count) / (10 + count))
    return {name: x + keep * (before[name] - x) for name, x in parameters.items()}


def _one_minus_power(base: float, count: mx.array) -> mx.array:
    """1 - base^count without the digits that float32 loses at a base near 1."""
    return -mx.expm1(count * math.log(base))
