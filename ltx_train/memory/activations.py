"""How much a step holds beside weights and state, from shapes alone.

For the gradient of a product both factors have to be there, unless the other one is not trained; a
norm needs what it was given, a softmax what it gave. So each sublayer of a block keeps a few
arrays, which are counted here as the block computes them (ltx_models/transformer/block.py), in
numbers of values. What the backward pass holds besides for a moment is fitted to measurements, to
within a tenth (docs/experiments.md).
Letters: T tokens, S of the context, D a stream's width, H heads; B samples are within T and S.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import mlx.nn as nn

from ltx_models.lora.linear import Linear, LoRALinear, weight_shape
from ltx_models.transformer.attention import Attention, FeedForward
from ltx_models.transformer.block import StreamName, TransformerBlock, prefix
from ltx_models.transformer.model import Transformer

MULT = 4  # the width of the feed-forward's inner layer, over the stream's


class StreamShape(NamedTuple):
    """One stream of a batch."""

    batch: int
    num_tokens: int  # of one sample, those of a reference too
    num_context: int  # of one sample's prompt
    per_token: bool  # whether tokens of a sample have noise levels of their own


Shapes = Mapping[StreamName, StreamShape]


class Activations(NamedTuple):
    """Numbers of values."""

    blocks: list[int]  # that each block keeps for its gradient
    momentary: int  # that its backward pass holds on top
    if_recomputed: int  # held in all where each block is computed a second time, less one block's

    def most(self, *, recompute: bool) -> int:
        """The most that is held at once."""
        if recompute:
            return max(self.blocks) + self.momentary + self.if_recomputed
        return sum(self.blocks) + self.momentary


class _Stream(NamedTuple):
    """A stream of a model, and of a batch for it."""

    shape: StreamShape
    dim: int
    num_heads: int

    @property
    def tokens(self) -> int:
        """Of all samples, as are all sizes below."""
        return self.shape.batch * self.shape.num_tokens

    @property
    def prompts(self) -> int:
        return self.shape.batch * self.shape.num_context

    @property
    def states(self) -> int:
        return self.tokens * self.dim


def count_activations(model: Transformer, shapes: Shapes, *, full: bool) -> Activations:
    """Count them for a model whose adapters are set, or (``full``) of which all is trained."""
    config = model.config
    sizes: dict[StreamName, tuple[int, int]] = {
        "video": (config.dim, config.num_attention_heads),
        "audio": (config.audio_dim, config.audio_num_attention_heads),
    }
    streams: dict[StreamName, _Stream] = {
        name: _Stream(shape, *sizes[name]) for name, shape in shapes.items()
    }
    each = list(streams.values())
    weights = max(one.num_heads * one.tokens * one.shape.num_tokens for one in each)
    of_prompts = max(one.num_heads * one.tokens * one.shape.num_context for one in each)
    states = sum(one.states for one in each)
    prompts = sum(one.prompts * one.dim for one in each)
    largest = max(one.states for one in each)
    blocks = [_block(block, streams, full=full) for block in model.transformer_blocks]
    return Activations(
        blocks=blocks,
        momentary=max(8 * MULT * largest, 2 * weights + 7 * largest) + 2 * of_prompts,
        if_recomputed=int(0.5 * weights + len(blocks) * (2.5 * states + 1.4 * prompts)),
    )


def _block(block: TransformerBlock, streams: Mapping[StreamName, _Stream], *, full: bool) -> int:
    count = 0
    num_norms = 3 if len(streams) == 1 else 4
    for name, one in streams.items():
        at, (batch, num_tokens, num_context, per_token) = prefix(name), one.shape
        own, text = block[f"{at}attn1"], block[f"{at}attn2"]
        count += _attention(own, batch, num_tokens, num_tokens, of="itself", full=full)
        count += _attention(text, batch, num_tokens, num_context, of="prompt", full=full)
        count += _feed_forward(block[f"{at}ff"], one, full=full)
        # What each norm is given; where tokens differ, its scale, and the gate that comes after it;
        # where these are trained, what they are multiplied with.
        count += num_norms * one.states * (1 + 2 * per_token + 2 * full)
    if len(streams) == 2:
        video, audio = streams["video"].shape, streams["audio"].shape
        for layer, to, source in (
            (block.audio_to_video_attn, video, audio),
            (block.video_to_audio_attn, audio, video),
        ):
            tokens = to.num_tokens, source.num_tokens
            count += _attention(layer, to.batch, *tokens, of="other stream", full=full)
    return count


def _attention(
    layer: Attention,
    batch: int,
    num_queries: int,
    num_keys: int,
    *,
    of: Literal["itself", "prompt", "other stream"],
    full: bool,
) -> int:
    inner, in_dims = _shape(layer.to_q)
    _, key_dims = _shape(layer.to_k)
    queries, keys = batch * num_queries, batch * num_keys
    trained = {
        name: _is_trained(each, full=full)
        for name, each in {
            "q": layer.to_q,
            "k": layer.to_k,
            "v": layer.to_v,
            "out": layer.to_out[0],
        }.items()
    }
    count = layer.num_heads * queries * num_keys  # the weights
    count += 2 * (queries + keys) * inner  # queries, keys, values and results as multiplied
    count += queries * inner  # queries before their norm; of a prompt's keys nothing needs them
    count += keys * inner if of != "prompt" or trained["k"] else 0
    count += queries * inner if trained["out"] and layer.to_gate_logits is not None else 0
    of_keys = trained["k"] or trained["v"]
    count += queries * in_dims if trained["q"] or (of == "itself" and of_keys) else 0
    count += keys * key_dims if of != "itself" and of_keys else 0
    return count


def _feed_forward(layer: FeedForward, one: _Stream, *, full: bool) -> int:
    count = 2 * MULT * one.states  # what GELU is given, and how much it lets through
    count += one.states if _is_trained(layer.net[0].proj, full=full) else 0
    return count + (MULT * one.states if _is_trained(layer.net[2], full=full) else 0)


def _is_trained(layer: nn.Module, *, full: bool) -> bool:
    return full or isinstance(layer, LoRALinear)


def _shape(layer: Linear | LoRALinear) -> tuple[int, int]:
    return weight_shape(layer.base if isinstance(layer, LoRALinear) else layer)
