"""The flow-matching loss of a batch (spec/training.md 1.3; the flow itself: ltx_models/flow.py).

Letters: B batch, T tokens with those of a reference in front, G tokens of the clip itself, C
channels, S context tokens.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models import flow
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Modality, Prepared, Transformer
from ltx_models.transformer.rope import Rope
from ltx_models.transformer.timestep import Timesteps, distinct

TABLES_KEPT = 8  # of sizes and frame rates, which are few in a data set
LEAST_SHARE = 1e-8  # of tokens that are generated; a sample without any has no loss


class StreamBatch(NamedTuple):
    """One stream of a batch, and what was drawn for it."""

    x_0: mx.array  # (B, T, C) clean tokens, float32
    noise: mx.array | None  # (B, G, C); None for a stream that is given as a whole
    sigma: np.ndarray  # (B,)
    denoise_mask: np.ndarray  # (B, T): 1 where generated, 0 where given
    positions: np.ndarray  # (B, axes, T, 2)
    context: mx.array  # (B, S, context_dim), from the text connectors
    loss_weight: float = 1.0


class StreamInputs(NamedTuple):
    """One stream as a step takes it: arrays alone, so that the step can be compiled."""

    tokens: mx.array  # (B, T, C), noise mixed in
    velocity: mx.array | None  # (B, G, C), what is to be answered; None for a stream without loss
    loss_mask: mx.array  # (B, G)
    loss_weight: mx.array  # ()
    sigma: mx.array  # (B,)
    timesteps: Timesteps  # of T tokens
    context: mx.array  # (B, S, context_dim)
    rope: Rope
    cross_rope: Rope | None


Batch = Mapping[StreamName, StreamBatch]
Inputs = dict[StreamName, StreamInputs]
_Tables = tuple[Rope, Rope | None]


def input_maker(model: Transformer) -> Callable[[Batch], Inputs]:
    """A function that mixes the noise in and builds position tables: all that needs the host.

    Tables are kept for the next batch of the same size: their sines take long.
    """

    @lru_cache(maxsize=TABLES_KEPT)
    def tables(name: StreamName, shape: tuple[int, ...], positions: bytes) -> _Tables:
        table = np.frombuffer(positions, np.float32).reshape(shape)
        return model.position_tables(name, table)

    def make(batch: Batch) -> Inputs:
        return {
            name: _stream_inputs(
                stream, *tables(name, stream.positions.shape, stream.positions.tobytes())
            )
            for name, stream in batch.items()
        }

    return make


def _stream_inputs(stream: StreamBatch, rope: Rope, cross_rope: Rope | None) -> StreamInputs:
    mask = stream.denoise_mask
    velocity = None
    tokens, length = stream.x_0, mask.shape[1]
    if stream.noise is not None:
        length = stream.noise.shape[1]
        levels = mx.array(mask * stream.sigma[:, None])[..., None]
        noise = mx.pad(stream.noise, [(0, 0), (mask.shape[1] - length, 0), (0, 0)])
        tokens = flow.add_noise(stream.x_0, noise, levels)
        velocity = flow.velocity(stream.x_0[:, -length:], stream.noise)
    return StreamInputs(
        tokens=tokens,
        velocity=velocity,
        loss_mask=mx.array(mask[:, -length:], mx.float32),
        loss_weight=mx.array(stream.loss_weight, mx.float32),
        sigma=mx.array(stream.sigma, mx.float32),
        timesteps=distinct(mask * stream.sigma[:, None]),
        context=stream.context,
        rope=rope,
        cross_rope=cross_rope,
    )


def sample_losses(model: Transformer, inputs: Inputs) -> dict[StreamName, mx.array]:
    """The loss of each sample (B,), float32, of every stream that has one.

    Mean squared error of the velocity over the tokens that are generated.
    """
    given = {name: _modality(model, name, stream) for name, stream in inputs.items()}
    velocities = model(given.get("video"), given.get("audio"))
    predicted = dict(zip(("video", "audio"), velocities, strict=True))
    return {
        name: _masked_error(predicted[name], stream.velocity, stream.loss_mask)
        for name, stream in inputs.items()
        if stream.velocity is not None
    }


def mean_loss(losses: Mapping[StreamName, mx.array], inputs: Inputs) -> mx.array:
    """What is minimised: the streams' losses by their weights, and the mean over samples."""
    weighted = [inputs[name].loss_weight * loss for name, loss in losses.items()]
    return mx.stack(weighted).sum(axis=0).mean()


def _modality(model: Transformer, name: StreamName, stream: StreamInputs) -> Modality:
    # Here and not beforehand, because the projection may be among what is trained.
    context = model.project_context(name, stream.context)
    prepared = Prepared(context, None, None, stream.rope, stream.cross_rope)
    return Modality(stream.tokens, stream.sigma, stream.timesteps, prepared)


def _masked_error(predicted: mx.array | None, velocity: mx.array, loss_mask: mx.array) -> mx.array:
    """(B,): the squared error's mean where it counts; what answers a reference does not."""
    assert predicted is not None  # the model answers for every stream it is given
    predicted = predicted[:, -velocity.shape[1] :].astype(mx.float32)
    error = (predicted - velocity).square().mean(axis=-1)
    return (error * loss_mask).mean(axis=-1) / mx.maximum(loss_mask.mean(axis=-1), LEAST_SHARE)
