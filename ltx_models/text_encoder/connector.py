"""Text features to the context of a stream of the transformer (spec/model.md 6.3, 6.4).

Letters: B batch, S valid tokens, D the connector's width.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import CONNECTORS, TRANSFORMER
from ltx_models.transformer.attention import Attention, FeedForward
from ltx_models.transformer.config import ConnectorSize, TransformerConfig
from ltx_models.transformer.rope import Rope, rope_table
from ltx_models.weights import WeightsError

NUM_REGISTERS = 128
EPS = 1e-6
THETA = 10000.0  # the reference reads positional_embedding_theta for the transformer only
MAX_LENGTH = 1024


class ConnectorBlock(nn.Module):
    """Self attention and feed-forward, each behind a norm without weights."""

    def __init__(self, size: ConnectorSize, *, gated: bool):
        super().__init__()
        self.attn1 = Attention(
            size.dim, num_heads=size.num_heads, head_dim=size.head_dim, gated=gated, eps=EPS
        )
        self.ff = FeedForward(size.dim)

    def __call__(self, x: mx.array, rope: Rope) -> mx.array:
        """(B, T, D) to (B, T, D)."""
        x = x + self.attn1(mx.fast.rms_norm(x, None, EPS), rope=rope)
        return x + self.ff(mx.fast.rms_norm(x, None, EPS))


class Connector(nn.Module):
    """A transformer over a prompt's tokens and the learnt registers that fill up its length."""

    def __init__(self, config: TransformerConfig, size: ConnectorSize):
        super().__init__()
        self.config = config
        self.size = size
        self.learnable_registers = mx.zeros((NUM_REGISTERS, size.dim))
        self.transformer_1d_blocks = [
            ConnectorBlock(size, gated=config.connector_apply_gated_attention)
            for _ in range(size.num_layers)
        ]

    def __call__(self, features: mx.array, *, length: int = MAX_LENGTH) -> mx.array:
        """Context (B, length, D) of features (B, S, D), of which every token is valid.

        Place i behind them holds register i mod 128. All places of the context are valid.
        """
        batch, num_tokens, dim = features.shape
        if num_tokens > length:
            raise ValueError(f"{num_tokens} tokens do not fit a context of {length}")
        dtype = self.learnable_registers.dtype
        registers = self.learnable_registers[mx.arange(num_tokens, length) % NUM_REGISTERS]
        registers = mx.broadcast_to(registers, (batch, length - num_tokens, dim))
        x = mx.concatenate([features.astype(dtype), registers], axis=1)

        cos, sin = connector_rope(self.config, self.size, length=length)
        rope = (cos.astype(dtype), sin.astype(dtype))
        for block in self.transformer_1d_blocks:
            x = block(x, rope)
        return mx.fast.rms_norm(x, None, EPS)


def connector_rope(config: TransformerConfig, size: ConnectorSize, *, length: int) -> Rope:
    """Tables (1, H, length, head_dim / 2) for positions 0, 1, ..., length - 1."""
    return rope_table(
        np.arange(length, dtype=np.float32)[None, None],
        dim=size.dim,
        num_heads=size.num_heads,
        theta=THETA,
        max_pos=config.connector_positional_embedding_max_pos,
        precision=config.frequencies_precision,
    )


class Connectors(NamedTuple):
    """The connector of each stream."""

    video: Connector
    audio: Connector


def load_connectors(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> Connectors:
    """Both connectors, their weights unread until they are first used.

    Raises WeightsError for files from before LTX-2, which had one connector and no sound.
    """
    if checkpoint.file.keys(f"{TRANSFORMER}embeddings_connector."):
        raise WeightsError(
            f"{checkpoint.path}: {TRANSFORMER}embeddings_connector.*: a model without sound\n"
            f"LTX-2 and LTX-2.3 have {' and '.join(CONNECTORS)}* instead."
        )
    config = checkpoint.section("transformer", TransformerConfig)
    connectors = Connectors(
        Connector(config, config.connector), Connector(config, config.audio_connector)
    )
    for connector, prefix in zip(connectors, CONNECTORS, strict=True):
        checkpoint.fill(connector, {"": prefix}, dtype=dtype)
    return connectors
