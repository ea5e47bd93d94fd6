"""From clean tokens to what the model is given: conditions, noise levels, references.

A condition marks tokens that are given; they enter clean, at noise level 0, and carry no loss. A
reference is put in front as further given tokens (spec/training.md 1.2).
Letters: B batch, T tokens, R tokens of a reference, C channels, F H W latent frames, rows, columns.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.transformer.block import StreamName
from ltx_models.transformer.patchify import VideoScale, video_positions
from ltx_train.data.draws import Draws
from ltx_train.loss import Batch, StreamBatch

Size = tuple[int, int, int]  # (F, H, W); a sound of T latents is (T, 1, 1)


class Given(NamedTuple):
    """A condition on a stream's own tokens: which it would give, and in what share of samples."""

    tokens: np.ndarray  # (T,) or (B, T) of bool
    probability: float = 1.0


class Reference(NamedTuple):
    """Clean tokens that go before a stream's own, and in what share of batches."""

    x_0: mx.array  # (B, R, C)
    positions: np.ndarray  # (B, axes, R, 2)
    probability: float = 1.0


class Source(NamedTuple):
    """One stream of a batch before anything is drawn for it."""

    x_0: mx.array  # (B, T, C) clean tokens, float32
    positions: np.ndarray  # (B, axes, T, 2)
    context: mx.array  # (B, S, context_dim), from the text connectors
    given: Sequence[Given] = ()
    references: Sequence[Reference] = ()
    is_generated: bool = True  # else the whole stream is given, and the other one learns from it
    loss_weight: float = 1.0


def draw_batch(
    sources: Mapping[StreamName, Source], draws: Draws, *, shared_sigma: bool = False
) -> Batch:
    """Draw levels, noise and conditions, stream by stream.

    Each generated stream has levels of its own, shifted by its own number of tokens. With
    ``shared_sigma`` all have those of the first.
    """
    batch: dict[StreamName, StreamBatch] = {}
    shared = None
    for name, source in sources.items():
        sigma = shared if shared_sigma and source.is_generated else None
        batch[name] = _draw_stream(source, draws, sigma)
        if source.is_generated and shared is None:
            shared = batch[name].sigma
    return batch


def _draw_stream(source: Source, draws: Draws, sigma: np.ndarray | None) -> StreamBatch:
    count, num_tokens, _ = source.x_0.shape
    if source.is_generated:
        sigma = draws.sigma(count, num_tokens) if sigma is None else sigma
        noise, mask = draws.normal(source.x_0.shape), _denoise_mask(source, draws)
    else:
        sigma, noise = np.zeros(count, np.float32), None
        mask = np.zeros((count, num_tokens), np.float32)
    x_0, positions = source.x_0, source.positions
    for reference in source.references:
        if draws.uniform(1)[0] < reference.probability:
            x_0 = mx.concatenate([reference.x_0, x_0], axis=1)
            positions = np.concatenate([reference.positions, positions], axis=2)
            mask = np.pad(mask, ((0, 0), (reference.x_0.shape[1], 0)))
    return StreamBatch(
        x_0=x_0,
        noise=noise,
        sigma=sigma,
        denoise_mask=mask,
        positions=positions,
        context=source.context,
        loss_weight=source.loss_weight,
    )


def _denoise_mask(source: Source, draws: Draws) -> np.ndarray:
    """(B, T) float32: 1 where generated. Each sample draws each condition for itself.

    A condition that would leave a sample nothing to generate is not applied to it: a still whose
    first frame is given would otherwise teach nothing.
    """
    count, num_tokens, _ = source.x_0.shape
    given = np.zeros((count, num_tokens), bool)
    for condition in source.given:
        chosen = draws.uniform(count) < condition.probability
        wider = given | (chosen[:, None] & condition.tokens)
        given = np.where(wider.all(axis=1, keepdims=True), given, wider)
    return (~given).astype(np.float32)


def first_units(size: Size, count: int) -> np.ndarray:
    """(T,) of bool: the tokens of the first ``count`` latent frames."""
    return _on_frames(size, np.arange(size[0]) < count)


def last_units(size: Size, count: int) -> np.ndarray:
    """(T,) of bool: the tokens of the last ``count`` latent frames."""
    return _on_frames(size, np.arange(size[0]) >= size[0] - count)


def region(size: Size, corners: Sequence[int], *, scale: VideoScale) -> np.ndarray:
    """(T,) of bool: the tokens of a rectangle (y1, x1, y2, x2) in pixels, in every frame.

    Corners are rounded down to whole latents, and cut to the picture.
    """
    y1, x1, y2, x2 = (corner // scale.space for corner in corners)
    inside = np.zeros(size, bool)
    inside[:, max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
    return inside.reshape(-1)


def masked(mask: np.ndarray) -> np.ndarray:
    """(B, T) of bool, of masks (B, ...) in the latents' own grid: what is above 0.5 is given."""
    return (mask > 0.5).reshape(len(mask), -1)


def reference_positions(
    size: Size, *, fps: float, scale: VideoScale, factors: tuple[int, int], target_fps: float
) -> np.ndarray:
    """Bounds (1, 3, R, 2) of a reference's tokens, where the clip has what they show.

    ``size`` and ``fps`` are the reference's own; ``factors`` say how many times smaller it is in
    space, and how many times slower in time (its fps is then the clip's over that). With the
    first frame alone in its latent, the reference's last latent ends where the clip's last does
    if all are moved by the frames that one latent frame of it skips.
    """
    spatial, temporal = factors
    bounds = video_positions(size, fps=fps, scale=scale)
    bounds[:, 1:] *= spatial
    bounds[:, 0] = np.maximum(bounds[:, 0] - np.float32((temporal - 1) / target_fps), 0)
    return bounds


def _on_frames(size: Size, frames: np.ndarray) -> np.ndarray:
    return np.broadcast_to(frames[:, None, None], size).reshape(-1)
