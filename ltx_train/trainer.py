"""The training loop: batches by their number, a step on each, and what it showed."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.errors import UserError
from ltx_models.transformer.model import Transformer
from ltx_train.loss import Batch, input_maker
from ltx_train.step import MicroBatch, Step, StepArrays, TrainState

DROPOUT = 2  # which of the seed's streams of random numbers
MAX_SKIPPED = 5  # in a row, after which the run stops
NUM_QUARTERS = 4  # of the noise levels, in which losses are told


class TargetError(UserError):
    """A target that cannot be trained, so that there is nothing worth saving."""


class StepMetrics(NamedTuple):
    """What a step showed; losses and the gradient's norm are from before its update."""

    step: int  # from 1
    loss: float
    losses: dict[str, float]  # by stream, without its weight
    quarters: dict[str, list[float | None]]  # by stream, and by quarter of the noise level
    learning_rate: float
    grad_norm: float  # before it was clipped
    adapter_norm: float  # of all lora_B together, after the update
    dead_share: float  # of the adapted layers: those that change nothing
    skipped_in_a_row: int  # 0 where the step was not skipped
    seconds: float


def feed(
    model: Transformer,
    batches: Iterable[Batch],
    *,
    seed: int,
    dropout: float = 0.0,
    start: int = 0,
) -> Iterator[MicroBatch]:
    """What steps take of batches, the first of which has number ``start``.

    The key of the dropout, if there is one, is decided by seed and number as well.
    """
    make_inputs = input_maker(model)
    for number, batch in enumerate(batches, start):
        yield MicroBatch(make_inputs(batch), _key(seed, number) if dropout else None)


def train(
    step: Step,
    state: TrainState,
    batches: Iterator[MicroBatch],
    rates: Sequence[float],
    *,
    accumulation: int = 1,
    done: int = 0,
) -> Iterator[tuple[TrainState, StepMetrics]]:
    """Train on after ``done`` of as many steps as there are rates; yields after each.

    Every step takes ``accumulation`` batches, whether or not an epoch ends between them. Raises
    UserError after five steps in a row whose loss or gradient is not finite, or after the last if
    all were so; each of them is yielded before, and none changes what is trained.
    """
    for number in range(done + 1, len(rates) + 1):
        start = time.perf_counter()
        given = list(islice(batches, accumulation))
        state, arrays = step(state, given, rates[number - 1])
        skipped = int(state.skipped_in_a_row)
        losses, quarters = _by_stream(given, arrays)
        metrics = StepMetrics(
            step=number,
            loss=float(arrays.loss),
            losses=losses,
            quarters=quarters,
            learning_rate=rates[number - 1],
            grad_norm=float(arrays.grad_norm),
            adapter_norm=float(arrays.adapter_norm),
            dead_share=float(arrays.dead_share),
            skipped_in_a_row=skipped,
            seconds=time.perf_counter() - start,
        )
        yield state, metrics
        # Or more: a run that was stopped by this may have been resumed.
        if skipped >= MAX_SKIPPED or (number == len(rates) and not int(state.updates)):
            raise _diverged(metrics)


def is_first_update(state: TrainState, metrics: StepMetrics) -> bool:
    """Whether this step was the run's first that was not skipped."""
    return int(state.updates) == 1 and not metrics.skipped_in_a_row


def check_targets(state: TrainState, targets: Sequence[str]) -> list[str]:
    """After the first update: the adapted layers that got no gradient at all, by path.

    Such a layer feeds nothing that has a loss, as the last block's attention from the picture to a
    sound that is given. Raises TargetError for a target all of whose layers are so.
    """
    end = ".lora_B"
    means = {n.removesuffix(end): x for n, x in state.moments.first.items() if n.endswith(end)}
    any_nonzero = np.array(mx.stack([x.any() for x in means.values()]))
    reached = dict(zip(means, any_nonzero, strict=True))
    for target in targets:
        hits = [path for path in reached if f".{path}".endswith(f".{target}")]
        if not any(reached[path] for path in hits):
            raise TargetError(
                f"lora.target_modules: {target!r} gets no gradient: what {hits[0]} computes "
                "reaches no loss.\nRemove it, or let training_strategy generate what it belongs to"
            )
    return [path for path, is_reached in reached.items() if not is_reached]


def _key(seed: int, number: int) -> mx.array:
    return mx.array(
        np.random.default_rng([seed, DROPOUT, number]).integers(2**32, size=2), mx.uint32
    )


def _by_stream(
    given: Sequence[MicroBatch], arrays: StepArrays
) -> tuple[dict[str, float], dict[str, list[float | None]]]:
    """Mean losses of the streams, and of each one's samples by the quarter of their level."""
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for batch, losses in zip(given, arrays.losses, strict=True):
        for name, loss in losses.items():
            sigmas = np.array(batch.inputs[name].sigma)
            samples[name] += zip(sigmas.tolist(), np.array(loss).tolist(), strict=True)
    means = {name: _mean([loss for _, loss in pairs]) for name, pairs in samples.items()}
    quarters = {}
    for name, pairs in samples.items():
        parts: list[list[float]] = [[] for _ in range(NUM_QUARTERS)]
        for sigma, loss in pairs:
            parts[min(int(sigma * NUM_QUARTERS), NUM_QUARTERS - 1)].append(loss)
        quarters[name] = [_mean(part) if part else None for part in parts]
    return means, quarters


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _diverged(metrics: StepMetrics) -> UserError:
    return UserError(
        f"step {metrics.step}: for {metrics.skipped_in_a_row} steps in a row loss or gradient are "
        f"not finite; the last loss is {metrics.loss:.3g}, its gradient's norm "
        f"{metrics.grad_norm:.3g}.\n"
        "Try a lower optimization.learning_rate, and look at the data of these steps"
    )
