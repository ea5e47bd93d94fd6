"""Timesteps into modulation rows (spec/model.md 3.2).

Tokens share few distinct timesteps: one in text-to-video, two or three with conditions. Each value
is embedded once; tokens gather their rows by index. Letters: N distinct values, B batch, T tokens.
"""

import math
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ltx_models.activations import silu

NUM_CHANNELS = 256  # of the sinusoid, fixed by the weights' shape in every release


class Timesteps(NamedTuple):
    """Noise levels of tokens: distinct ``values`` (N,), and ``which`` one each token has.

    ``which`` is (B, T) or (B, 1); None means that the one value belongs to every token.
    """

    values: mx.array
    which: mx.array | None = None

    def per_token(self) -> mx.array:
        """The levels as (B, T), (B, 1) or (1, 1)."""
        return self.values[None] if self.which is None else self.values[self.which]


def distinct(timesteps: np.ndarray) -> Timesteps:
    """Timesteps (B, T) on the host, as their distinct values and whose they are."""
    values, which = np.unique(np.asarray(timesteps, np.float32), return_inverse=True)
    if len(values) == 1:
        return Timesteps(mx.array(values))
    which = which.reshape(timesteps.shape).astype(np.int32)
    if (which == which[:, :1]).all():
        which = which[:, :1]  # one value a sample: broadcast over its tokens
    return Timesteps(mx.array(values), mx.array(which))


def per_sample(sigma: mx.array) -> Timesteps:
    """One level a sample, sigma (B,), for all of its tokens."""
    return Timesteps(sigma, mx.arange(sigma.shape[0])[:, None])


class Modulation(NamedTuple):
    """Rows (N, K, dim) made from distinct timesteps, and ``which`` of them each token has."""

    rows: mx.array
    which: mx.array | None

    def with_table(self, table: mx.array, rows: slice) -> list[mx.array]:
        """Some rows plus a learned table's; each broadcasts to (B, T, dim)."""
        total = table[rows] + self.rows[:, rows]
        parts = [total[:, i] for i in range(total.shape[1])]
        if self.which is None:
            return parts
        # nn.utils.checkpoint asks for the gradient of every array, and an index has none.
        which = mx.stop_gradient(self.which)
        return [part[which] for part in parts]


class AdaLayerNormSingle(nn.Module):
    """A sinusoid and an MLP, then one linear layer to ``num_rows`` rows of ``dim`` channels."""

    def __init__(self, dim: int, *, num_rows: int):
        super().__init__()
        self._num_rows = num_rows
        self.emb = _Embedding(dim)
        self.linear = nn.Linear(dim, num_rows * dim)

    def __call__(self, timesteps: mx.array) -> tuple[mx.array, mx.array]:
        """Scaled timesteps (N,) to rows (N, num_rows, dim) and the embedding (N, dim)."""
        embedded = self.emb.timestep_embedder(timesteps)
        rows = self.linear(silu(embedded))
        return mx.unflatten(rows, -1, (self._num_rows, -1)), embedded


class _Embedding(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.timestep_embedder = _TimestepEmbedder(dim)


class _TimestepEmbedder(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(NUM_CHANNELS, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def __call__(self, timesteps: mx.array) -> mx.array:
        # The angles need float32, but must not carry it into the network: every block adds these
        # rows to its hidden state, which would then be float32 throughout.
        wave = sinusoid(timesteps).astype(self.linear_1.weight.dtype)
        return self.linear_2(silu(self.linear_1(wave)))


def sinusoid(timesteps: mx.array) -> mx.array:
    """Cosines, then sines, of (N,) timesteps at 128 frequencies from 1 to 1/10000; float32."""
    half = NUM_CHANNELS // 2
    frequencies = mx.exp(-math.log(10000) / half * mx.arange(half, dtype=mx.float32))
    angles = timesteps.astype(mx.float32)[:, None] * frequencies
    return mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=-1)
