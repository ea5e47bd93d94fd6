"""The loss of samples that are never trained on, at fixed noise levels with fixed noise.

Sample, level and seed alone decide what is drawn, so the numbers of a run can be compared from
its first step to its last, through any interruption.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import mlx.core as mx
import numpy as np

from ltx_infer.progress import Report
from ltx_models.errors import UserError
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Transformer
from ltx_train.config import TrainConfig
from ltx_train.data.batches import Contexts, Scales, make_batch
from ltx_train.data.dataset import Dataset, some_names
from ltx_train.data.samples import Sample
from ltx_train.loss import Batch, StreamBatch, input_maker, mean_loss, sample_losses

HELD_OUT = 4  # which of the seed's streams of random numbers
LEVELS = (0.125, 0.375, 0.625, 0.875)  # the middles of the quarters that losses are told in
MOST_PASSES = 64  # of the model, however many samples are held back


def hold_out(dataset: Dataset, config: TrainConfig) -> tuple[Dataset, list[Sample]]:
    """The data to train on, and the samples held back, sorted by name; notes name them.

    Each sample's place is decided by the seed and its name alone, so that more data change little.
    Raises UserError where none is left to train on.
    """
    count = config.validation.num_held_out(len(dataset.samples))
    if not count:
        return dataset, []
    if count >= len(dataset.samples):
        raise UserError(
            f"validation.holdout {config.validation.holdout:g}: holds back {count} of "
            f"{len(dataset.samples)} samples, and one at least has to be trained on"
        )
    chosen = sorted(dataset.samples, key=lambda sample: _number(sample, config.seed))[:count]
    names = sorted(sample.name for sample in chosen)
    held = [sample for sample in dataset.samples if sample.name in names]
    notes = [f"validation.holdout: {count} never trained on: {some_names(names)}"]
    if count * len(LEVELS) > MOST_PASSES:
        notes.append(
            f"validation.holdout: {MOST_PASSES} of {count * len(LEVELS)} pairs of sample and noise "
            "level are measured"
        )
    left = [sample for sample in dataset.samples if sample.name not in names]
    return dataset._replace(samples=left, notes=[*dataset.notes, *notes]), held


def heldout_loss(
    model: Transformer,
    held: Sequence[Sample],
    dataset: Dataset,
    contexts: Contexts,
    config: TrainConfig,
    *,
    scales: Scales,
    report: Report,
) -> dict[str, float]:
    """The mean loss of each stream that is learnt, and as ``loss`` what training would minimise.

    All streams are at one level at a time; each level is the turn of every sample, up to 64
    passes. Captions are never dropped; conditions are drawn once for all.
    """
    found: dict[str, list[float]] = defaultdict(list)
    make_inputs = input_maker(model)
    pairs = _pairs(held)
    for number, (sample, level) in enumerate(pairs):
        report("held-out loss", number, len(pairs))
        batch = _fixed(_batch(sample, dataset, contexts, config, scales), sample, level, config)
        inputs = make_inputs(batch)
        losses = sample_losses(model, inputs)
        mean = mean_loss(losses, inputs)
        mx.eval(losses, mean)
        found["loss"].append(float(mean))
        for name, loss in losses.items():
            found[name].append(float(loss[0]))
    mx.clear_cache()
    return {name: math.fsum(values) / len(values) for name, values in found.items()}


def _pairs(held: Sequence[Sample]) -> list[tuple[Sample, int]]:
    """Samples with levels' numbers; they take turns, as not all pairs may be measured."""
    turns = range(len(LEVELS))
    pairs = ((one, (i + turn) % len(LEVELS)) for turn in turns for i, one in enumerate(held))
    return list(islice(pairs, MOST_PASSES))


def _batch(
    sample: Sample, dataset: Dataset, contexts: Contexts, config: TrainConfig, scales: Scales
) -> Batch:
    strategy = config.training_strategy.model_copy(update={"caption_dropout": 0.0})
    config = config.model_copy(update={"training_strategy": strategy})
    number = _number(sample, config.seed)
    return make_batch([sample], dataset, contexts, config, scales=scales, number=number)


def _fixed(batch: Batch, sample: Sample, level: int, config: TrainConfig) -> Batch:
    """The batch at a level, with the noise that this sample always has there."""
    key = [config.seed, HELD_OUT, _number(sample, config.seed), level]
    rng = np.random.default_rng(key)
    sigma = np.array([LEVELS[level]], np.float32)
    found: dict[StreamName, StreamBatch] = {}
    for name, stream in batch.items():
        found[name] = stream
        if stream.noise is not None:
            noise = mx.array(rng.standard_normal(stream.noise.shape, np.float32))
            found[name] = stream._replace(noise=noise, sigma=sigma)
    return found


def _number(sample: Sample, seed: int) -> int:
    """A number of 64 bits that seed and name decide."""
    digest = hashlib.sha256(f"{seed}:{sample.name}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
