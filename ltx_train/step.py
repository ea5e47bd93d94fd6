"""The training step: a function of its state, which goes in and comes out.

All that a step changes is tensors by name, so that it can be compiled, written to a file, and a run
be taken up from there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ltx_models.lora.linear import Dropout, lora_layers
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Transformer
from ltx_train.loss import Inputs, mean_loss, sample_losses
from ltx_train.optimizer import (
    Moments,
    Tensors,
    adamw,
    adamw_factors,
    average_keep,
    clip_factor,
    global_norm,
    in_runs,
    new_moments,
)

StreamLosses = dict[StreamName, mx.array]  # (B,) each


class TrainState(NamedTuple):
    """All that steps change, and all that a run is taken up from besides its number of steps."""

    parameters: Tensors  # what is trained, float32, by path in the model
    moments: Moments
    average: Tensors  # of the parameters; empty unless one is kept
    updates: mx.array  # (), int32: steps less those that were skipped
    skipped_in_a_row: mx.array  # (), int32


class MicroBatch(NamedTuple):
    """What a step takes of one batch."""

    inputs: Inputs
    key: mx.array | None = None  # of the dropout, where there is one


class StepArrays(NamedTuple):
    """What a step tells besides the state."""

    losses: list[StreamLosses]  # of each micro-batch
    loss: mx.array  # (), before the update, as is the norm
    grad_norm: mx.array  # (), before clipping
    adapter_norm: mx.array  # (), of all lora_B together, after the update
    dead_share: mx.array  # (), of the adapted layers: those whose update is exactly 0


class _Total(NamedTuple):
    """What the micro-batches of a step add up to."""

    loss: mx.array
    grads: Tensors


Step = Callable[[TrainState, Sequence[MicroBatch], float], tuple[TrainState, StepArrays]]


def new_state(model: nn.Module, *, keep_average: bool = False) -> TrainState:
    """The state before the first step, of the model's trainable weights."""
    parameters = {name: x.astype(mx.float32) for name, x in _trainable(model).items()}
    zero = mx.array(0, mx.int32)
    kept = dict(parameters) if keep_average else {}
    return TrainState(parameters, new_moments(parameters), kept, zero, zero)


def installer(model: nn.Module) -> Callable[[Tensors], None]:
    """A function that puts trained tensors into the model, in the types that it has now."""
    types = {name: x.dtype for name, x in _trainable(model).items()}

    def install(parameters: Tensors) -> None:
        cast = [(name, x.astype(types[name])) for name, x in parameters.items()]
        model.update(tree_unflatten(cast))

    return install


def gradients(
    model: Transformer, *, dropout: float = 0.0
) -> Callable[[Tensors, MicroBatch], tuple[StreamLosses, mx.array, Tensors]]:
    """A function to the losses of a micro-batch by sample, their mean, and its gradients.

    It leaves the model holding what it was differentiated by: ``install`` puts that right.
    """
    install, layers = installer(model), list(lora_layers(model).values())

    def loss(parameters: Tensors, inputs: Inputs) -> tuple[mx.array, StreamLosses]:
        install(parameters)
        losses = sample_losses(model, inputs)
        return mean_loss(losses, inputs), losses

    def differentiate(parameters: Tensors, batch: MicroBatch):
        drops: list[Dropout | None] = [None] * len(layers)
        if dropout and batch.key is not None:
            drops = [Dropout(dropout, key) for key in mx.random.split(batch.key, len(layers))]
        # Around the gradient too, since checkpointed blocks run a second time in it.
        _set_dropout(layers, drops)
        (mean, losses), grads = mx.value_and_grad(loss)(parameters, batch.inputs)
        _set_dropout(layers, [None] * len(layers))
        return losses, mean, grads

    return differentiate


def make_step(
    model: Transformer,
    *,
    max_grad_norm: float,
    ema_decay: float | None = None,
    dropout: float = 0.0,
    compiled: bool = False,
) -> Step:
    """The step of a model whose trainable weights are set; nothing else of it may change.

    A step takes the state, its micro-batches, which count alike, and the learning rate. Where loss
    or gradient are not finite the state stays as it is but for the count of such steps. What is
    returned is evaluated, and the model has the new weights.
    """
    differentiate = gradients(model, dropout=dropout)

    def add(
        parameters: Tensors, batch: MicroBatch, total: _Total | None
    ) -> tuple[StreamLosses, _Total]:
        losses, mean, grads = differentiate(parameters, batch)
        new = _Total(mean, grads)
        return losses, new if total is None else cast(_Total, tree_map(mx.add, total, new))

    def finish(state: TrainState, batch: MicroBatch, total: _Total | None, rate, count):
        losses, total = add(state.parameters, batch, total)
        loss, norm = total.loss / count, global_norm(total.grads) / count
        fine = mx.isfinite(loss) & mx.isfinite(norm)
        grads = clip_factor(norm, max_grad_norm) / count, total.grads
        state = _updated(state, grads, fine=fine, rate=rate, ema_decay=ema_decay)
        return state, losses, (loss, norm, *_health(state.parameters))

    if compiled:
        mx.eval(model.parameters())  # else their reading is a part of what is compiled
        add, finish = mx.compile(add), mx.compile(finish)
    install = installer(model)

    def step(state: TrainState, batches: Sequence[MicroBatch], rate: float):
        total, losses = None, []
        for batch in batches[:-1]:
            of_batch, total = add(state.parameters, batch, total)
            mx.eval(of_batch, total)
            losses.append(of_batch)
        scalars = mx.array(rate, mx.float32), mx.array(len(batches), mx.float32)
        state, of_batch, told = finish(state, batches[-1], total, *scalars)
        # Together: the loss alone would keep every activation until the gradients are asked for.
        mx.eval(state, of_batch, told)
        install(state.parameters)
        return state, StepArrays([*losses, of_batch], *told)

    return step


def _trainable(model: nn.Module) -> Tensors:
    return cast(Tensors, tree_flatten(model.trainable_parameters(), destination={}))


def _updated(
    state: TrainState,
    grads: tuple[mx.array, Tensors],
    *,
    fine: mx.array,
    rate: mx.array,
    ema_decay: float | None,
) -> TrainState:
    """The state after an update by gradients times a factor, or as it was unless all is fine."""
    factor, by_name = grads
    updates = state.updates + 1
    factors = adamw_factors(updates, rate)
    keep = None if ema_decay is None else average_keep(updates, ema_decay)

    def change(given: Sequence[mx.array]) -> list[mx.array]:
        grad, x, first, second, *kept = given
        new, moments = adamw(x, factor * grad, (first, second), factors)
        after = [new, *moments]
        if keep is not None:
            after.append(new + keep * (kept[0] - new))
        return [mx.where(fine, y, before) for y, before in zip(after, given[1:], strict=True)]

    groups = [by_name, state.parameters, *state.moments, *([] if keep is None else [state.average])]
    parameters, first, second, *kept = in_runs(change, groups)
    return TrainState(
        parameters=parameters,
        moments=Moments(first, second),
        average=kept[0] if kept else {},
        updates=mx.where(fine, updates, state.updates),
        skipped_in_a_row=mx.where(fine, 0, state.skipped_in_a_row + 1),
    )


def _health(parameters: Tensors) -> tuple[mx.array, mx.array]:
    """The joint norm of all lora_B, and which share of them is 0; both 0 where there is none."""
    squares = [x.square().sum() for name, x in parameters.items() if name.endswith("lora_B")]
    if not squares:
        return mx.array(0.0), mx.array(0.0)
    stacked = mx.stack(squares)
    return mx.sqrt(stacked.sum()), (stacked == 0).astype(mx.float32).mean()


def _set_dropout(layers: Sequence, drops: Sequence[Dropout | None]) -> None:
    for layer, drop in zip(layers, drops, strict=True):
        layer.set_dropout(drop)
