"""The order in which samples are trained on, and which make a batch."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice

import numpy as np

from ltx_models.errors import UserError
from ltx_train.data.dataset import some_names
from ltx_train.data.samples import Sample

ORDER = 0  # which of the seed's streams of random numbers; what is drawn for a batch has the next


def check_batches(samples: Sequence[Sample], *, batch_size: int) -> list[str]:
    """What of the samples no batch has, a line each; a batch has samples of one size.

    Raises UserError where there is no batch at all.
    """
    sizes: dict[tuple, list[Sample]] = {}
    for sample in samples:
        sizes.setdefault(sample.shapes, []).append(sample)
    most = max(map(len, sizes.values()))
    if most < batch_size:
        raise UserError(
            f"optimization.batch_size {batch_size}: there are {len(samples)} samples of "
            f"{len(sizes)} sizes, at most {most} of one; {most} would fit"
        )
    never = [s.name for group in sizes.values() if len(group) < batch_size for s in group]
    varying = sum(len(g) % batch_size for g in sizes.values() if len(g) >= batch_size)
    notes = [
        f"optimization.batch_size {batch_size}: {varying} of {len(samples)} samples, others each "
        "time, are left out of every epoch, as they fill no batch of one size"
    ]
    notes = notes if varying else []
    if never:
        notes.append(
            f"optimization.batch_size {batch_size}: {len(never)} samples are never trained on, as "
            f"there are not as many of their size: {some_names(never)}"
        )
    return notes


def batches_per_epoch(samples: Iterable[Sample], *, batch_size: int) -> int:
    """How many batches an epoch has; the same in every epoch."""
    sizes: dict[tuple, int] = {}
    for sample in samples:
        sizes[sample.shapes] = sizes.get(sample.shapes, 0) + 1
    return sum(number // batch_size for number in sizes.values())


def endless_batches(
    samples: Sequence[Sample], *, batch_size: int, seed: int, start: int = 0
) -> Iterator[list[Sample]]:
    """Batches of samples of one size for ever, from the ``start``-th on.

    The seed and the epoch's number alone decide an epoch's order, so that starting late costs one
    epoch at most. What fills no batch at the end of an epoch is left out of it.
    """
    first, skipped = divmod(start, batches_per_epoch(samples, batch_size=batch_size))
    yield from islice(_epoch(samples, batch_size, [seed, ORDER, first]), skipped, None)
    for epoch in count(first + 1):
        yield from _epoch(samples, batch_size, [seed, ORDER, epoch])


def _epoch(
    samples: Sequence[Sample], batch_size: int, seed: Sequence[int]
) -> Iterator[list[Sample]]:
    """One epoch's batches; a size's turn comes as often as it has filled one."""
    pending: dict[tuple, list[Sample]] = {}
    for i in np.random.default_rng(seed).permutation(len(samples)):
        batch = pending.setdefault(samples[i].shapes, [])
        batch.append(samples[i])
        if len(batch) == batch_size:
            yield pending.pop(samples[i].shapes)
