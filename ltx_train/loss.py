"""The flow-matching loss of a batch (spec/training.md 1.3; the flow itself: ltx_models/flow.py).

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Modality, Transformer
from ltx_models.transformer.timestep import Timesteps, distinct

LEAST_SHARE = 1e-8  # of tokens that are generated; a sample without any has no loss


class StreamBatch(NamedTuple):
    """One stream of a batch, and what was drawn for it."""

    x_0: mx.array  # (B, T, C) clean latent tokens, float32
    noise: mx.array  # (B, T, C)
    sigma: np.ndarray  # (B,)
    denoise_mask: np.ndarray  # (B, T): 1 where generated, 0 where given
    positions: np.ndarray  # (B, axes, T, 2)
    context: mx.array  # (B, S, context_dim), from the text connectors


Batch = Mapping[StreamName, StreamBatch]


def sample_losses(model: Transformer, batch: Batch) -> mx.array:
    """The loss of each sample (B,), float32: the sum over its streams.

    Mean squared error of the velocity over the tokens that are generated. Given tokens enter
    clean, at noise level 0, and carry no loss.
    """
    inputs = {name: _noised(model, name, stream) for name, stream in batch.items()}
    velocities = model(inputs.get("video"), inputs.get("audio"))
    predicted = dict(zip(("video", "audio"), velocities, strict=True))
    losses = [_masked_error(predicted[name], stream) for name, stream in batch.items()]
    return mx.stack(losses).sum(axis=0)


def _noised(model: Transformer, name: StreamName, stream: StreamBatch) -> Modality:
    timesteps = distinct(stream.denoise_mask * stream.sigma[:, None])
    prepared = model.prepare(name, positions=stream.positions, context=stream.context)
    sigma = mx.array(stream.sigma, mx.float32)
    return Modality(_noisy_tokens(stream, timesteps), sigma, timesteps, prepared)


def _noisy_tokens(stream: StreamBatch, timesteps: Timesteps) -> mx.array:
    """(1 - sigma) x_0 + sigma noise, with each token's own sigma."""
    sigma = timesteps.per_token()[..., None]
    return (1 - sigma) * stream.x_0 + sigma * stream.noise


def _masked_error(predicted: mx.array | None, stream: StreamBatch) -> mx.array:
    """(B,): the squared error's mean where it counts."""
    assert predicted is not None  # the model answers for every stream it is given
    velocity = stream.noise - stream.x_0
    mask = mx.array(stream.denoise_mask, mx.float32)
    error = (predicted.astype(mx.float32) - velocity).square().mean(axis=-1)
    return (error * mask).mean(axis=-1) / mx.maximum(mask.mean(axis=-1), LEAST_SHARE)
