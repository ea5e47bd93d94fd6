"""The training loop."""

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from ltx_models.errors import UserError
from ltx_models.transformer.model import Transformer
from ltx_train.config import OptimizationConfig
from ltx_train.loss import Batch, sample_losses


class StepMetrics(NamedTuple):
    """What a step showed; ``loss`` and ``grad_norm`` are from before its update."""

    step: int  # from 1
    loss: float
    learning_rate: float
    grad_norm: float  # before it was clipped
    seconds: float


def train(
    model: Transformer, batches: Iterator[Batch], config: OptimizationConfig
) -> Iterator[StepMetrics]:
    """Train the model's trainable weights; yields after each of ``config.steps``, all evaluated.

    Raises UserError when the loss or the gradient is not finite.
    """
    # As PyTorch computes it. The rate is set before each step.
    optimizer = optim.AdamW(0.0, [0.9, 0.999], 1e-8, weight_decay=0.01, bias_correction=True)
    losses_and_grads = nn.value_and_grad(model, lambda batch: sample_losses(model, batch).mean())
    for step, rate in enumerate(config.learning_rates(), 1):
        tic = time.perf_counter()
        loss, grads = losses_and_grads(next(batches))
        grads, norm = optim.clip_grad_norm(grads, config.max_grad_norm)
        optimizer.learning_rate = rate
        optimizer.update(model, grads)
        # Together: the loss alone would keep every activation until the gradients are asked for.
        mx.eval(loss, norm, model.trainable_parameters(), optimizer.state)
        seconds = time.perf_counter() - tic
        metrics = StepMetrics(step, float(loss), rate, float(norm), seconds)
        _check_finite(metrics)
        yield metrics


def _check_finite(metrics: StepMetrics) -> None:
    if not (math.isfinite(metrics.loss) and math.isfinite(metrics.grad_norm)):
        raise UserError(
            f"step {metrics.step}: the loss is {metrics.loss:.3g} and the norm of its gradient "
            f"{metrics.grad_norm:.3g}.\n"
            "Try a lower optimization.learning_rate"
        )
