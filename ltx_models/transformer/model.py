"""The transformer of LTX-2 and LTX-2.3: latents and a prompt to the flow's velocity (spec part 3).

Both streams together, or one alone. What does not change from step to step (context, masks, RoPE
tables) is made once by ``prepare``. Letters: B batch, T tokens, S context tokens, C channels.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ltx_models.activations import gelu
from ltx_models.transformer.attention import Keep
from ltx_models.transformer.block import (
    Stream,
    StreamName,
    Streams,
    Switches,
    TransformerBlock,
    prefix,
)
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.rope import Rope, rope_table
from ltx_models.transformer.sweep import Sweep, recomputed, straight
from ltx_models.transformer.timestep import (
    AdaLayerNormSingle,
    Modulation,
    Timesteps,
    per_sample,
)

BOTH: Streams = ("video", "audio")
Skippable = Literal[
    "video_self_attention", "audio_self_attention", "audio_to_video", "video_to_audio"
]


class Prepared(NamedTuple):
    """What one stream keeps through all steps; see ``Transformer.prepare``."""

    context: mx.array  # (B, S, dim)
    context_mask: mx.array | None  # additive, (B, 1, 1, S)
    attention_mask: mx.array | None  # additive, (B, 1, T, T)
    rope: Rope
    cross_rope: Rope | None


class Modality(NamedTuple):
    """One stream's input to one call of the model."""

    latents: mx.array  # (B, T, C) tokens
    sigma: mx.array  # (B,), the stream's noise level; 0 when it is frozen
    timesteps: Timesteps  # of each token: its denoise mask times sigma
    prepared: Prepared


class Perturbation(NamedTuple):
    """An attention that guidance skips, in some blocks or (None) in all."""

    skip: Skippable
    blocks: Collection[int] | None = None


class _TokenRows(NamedTuple):
    """What a stream's own timesteps give: the blocks' 6 or 9 rows, and the output head's 2."""

    blocks: Modulation
    head: Modulation


class Transformer(nn.Module):
    """Velocity (noise - x_0) of both streams; module names are the checkpoint's.

    ``sweep`` is the way through the blocks. ``forget`` is told the path of a linear layer whose
    weights were read for a moment and can go, where they are not in memory for good.
    """

    def __init__(self, config: TransformerConfig, *, streams: Streams = BOTH):
        super().__init__()
        self.config = config
        if "video" in streams:
            self._add_stream("", config.dim, config.in_channels, config.out_channels)
        if "audio" in streams:
            self._add_stream(
                "audio_", config.audio_dim, config.audio_in_channels, config.audio_out_channels
            )
        if len(streams) == 2:
            self.av_ca_video_scale_shift_adaln_single = AdaLayerNormSingle(config.dim, num_rows=4)
            self.av_ca_audio_scale_shift_adaln_single = AdaLayerNormSingle(
                config.audio_dim, num_rows=4
            )
            self.av_ca_a2v_gate_adaln_single = AdaLayerNormSingle(config.dim, num_rows=1)
            self.av_ca_v2a_gate_adaln_single = AdaLayerNormSingle(config.audio_dim, num_rows=1)
        self.transformer_blocks = [
            TransformerBlock(config, streams=streams) for _ in range(config.num_layers)
        ]
        self.sweep: Sweep = straight
        self.forget: Callable[[str], None] = _keep

    def _add_stream(self, at: str, dim: int, in_channels: int, out_channels: int) -> None:
        config = self.config
        self[f"{at}patchify_proj"] = nn.Linear(in_channels, dim)
        rows = 9 if config.cross_attention_adaln else 6
        self[f"{at}adaln_single"] = AdaLayerNormSingle(dim, num_rows=rows)
        if config.cross_attention_adaln:
            self[f"{at}prompt_adaln_single"] = AdaLayerNormSingle(dim, num_rows=2)
        if config.feature_version == "V1":
            self[f"{at}caption_projection"] = CaptionProjection(config.caption_channels, dim)
        self[f"{at}scale_shift_table"] = mx.zeros((2, dim))
        self[f"{at}proj_out"] = nn.Linear(dim, out_channels)

    @property
    def dtype(self) -> mx.Dtype:
        """What the blocks compute in: the type of the tables, which quantising leaves alone."""
        return self.transformer_blocks[0][f"{self._first}scale_shift_table"].dtype

    @property
    def _first(self) -> str:
        return "" if "patchify_proj" in self else "audio_"

    def recompute(self, on: bool = True) -> None:
        """For gradients keep each block's input alone, and compute the block a second time."""
        self.sweep = recomputed if on else straight

    def prepare(
        self,
        stream: StreamName,
        *,
        positions: np.ndarray,
        context: mx.array,
        context_mask: mx.array | None = None,
        attention_mask: mx.array | None = None,
    ) -> Prepared:
        """Make once what every step of a stage uses.

        ``positions`` (B, axes, T, 2) are bounds in seconds, pixel rows and columns, or seconds
        alone; ``context`` (B, S, context_dim) comes from the text connectors. ``context_mask``
        (B, S) is 1 where a token counts; ``attention_mask`` (B, T, T) in [0, 1] weighs
        self-attention.
        """
        rope, cross_rope = self.position_tables(stream, positions)
        cast = self.dtype
        return Prepared(
            context=self.project_context(stream, context),
            context_mask=None if context_mask is None else _keep_to_bias(context_mask, cast),
            attention_mask=None
            if attention_mask is None
            else _weight_to_bias(attention_mask, cast),
            rope=rope,
            cross_rope=cross_rope,
        )

    def position_tables(
        self, stream: StreamName, positions: np.ndarray
    ) -> tuple[Rope, Rope | None]:
        """A stream's tables of positions (B, axes, T, 2), and those it shares with the other one.

        In the blocks' type. Samples at the same positions share one table.
        """
        if (positions == positions[:1]).all():
            positions = positions[:1]
        (cos, sin), (cross_cos, cross_sin) = rope_tables(self.config, stream, positions)
        both = "patchify_proj" in self and "audio_patchify_proj" in self
        cast = self.dtype
        cross_rope = (cross_cos.astype(cast), cross_sin.astype(cast)) if both else None
        return (cos.astype(cast), sin.astype(cast)), cross_rope

    def project_context(self, stream: StreamName, context: mx.array) -> mx.array:
        """A stream's context (B, S, context_dim) as the blocks take it, in their type."""
        context = context.astype(self.dtype)
        if self.config.feature_version == "V1":
            context = self[f"{prefix(stream)}caption_projection"](context)
        return context

    def __call__(
        self,
        video: Modality | None,
        audio: Modality | None,
        *,
        perturbations: Sequence[Sequence[Perturbation]] = (),
        enabled: Collection[str] = BOTH,
    ) -> tuple[mx.array | None, mx.array | None]:
        """Velocities (B, T, C) of the streams that are given, in the type of the weights.

        ``perturbations`` has one sequence a sample. A stream that is not ``enabled`` is read by
        the other one, but its own tokens pass the blocks unchanged.
        """
        video_rows, audio_rows = self._embed("", video), self._embed("audio_", audio)
        streams = (
            self._enter("video", video_rows, video, audio),
            self._enter("audio", audio_rows, audio, video),
        )
        switches = partial(_switches, perturbations, enabled)
        streams = self.sweep(self.transformer_blocks, streams, switches)
        return (
            self._leave("", streams[0], video_rows),
            self._leave("audio_", streams[1], audio_rows),
        )

    def _embed(self, at: str, modality: Modality | None) -> _TokenRows | None:
        if modality is None:
            return None
        values, which = modality.timesteps
        scaled = values * self.config.timestep_scale_multiplier
        rows, embedded = self[f"{at}adaln_single"](scaled)
        head = mx.stack([embedded, embedded], axis=1)  # the same for shift and for scale
        return _TokenRows(Modulation(rows, which), Modulation(head, which))

    def _enter(
        self,
        name: StreamName,
        rows: _TokenRows | None,
        own: Modality | None,
        other: Modality | None,
    ) -> Stream | None:
        if own is None or rows is None:
            return None
        at = prefix(name)
        scale = self.config.timestep_scale_multiplier
        prompt = cross = gate = None
        if self.config.cross_attention_adaln:
            prompt = self._per_sample(f"{at}prompt_adaln_single", own.sigma, scale)
        if other is not None:
            cross_rows, _ = self[f"av_ca_{name}_scale_shift_adaln_single"](
                own.timesteps.values * scale
            )
            cross = Modulation(cross_rows, own.timesteps.which)
            # The gate opens by the other stream's noise level, not by this one's tokens.
            direction = "a2v" if name == "video" else "v2a"
            gate = self._per_sample(
                f"av_ca_{direction}_gate_adaln_single",
                other.sigma,
                self.config.av_ca_timestep_scale_multiplier,
            )
        return Stream(
            x=self[f"{at}patchify_proj"](own.latents.astype(self.dtype)),
            modulation=rows.blocks,
            prompt_modulation=prompt,
            cross_modulation=cross,
            cross_gate=gate,
            **own.prepared._asdict(),
        )

    def _per_sample(self, name: str, sigma: mx.array, scale: float) -> Modulation:
        timesteps = per_sample(sigma)
        rows, _ = self[name](timesteps.values * scale)
        return Modulation(rows, timesteps.which)

    def _leave(self, at: str, stream: Stream | None, rows: _TokenRows | None) -> mx.array | None:
        if stream is None or rows is None:
            return None
        shift, scale = rows.head.with_table(self[f"{at}scale_shift_table"], slice(0, 2))
        normed = mx.fast.layer_norm(stream.x, None, None, self.config.norm_eps)
        return self[f"{at}proj_out"](normed * (1 + scale) + shift)


class CaptionProjection(nn.Module):
    """LTX-2.0's projection of the context inside the transformer: linear, GELU (tanh), linear."""

    def __init__(self, in_channels: int, dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def __call__(self, context: mx.array) -> mx.array:
        """(B, S, in_channels) to (B, S, dim)."""
        return self.linear_2(gelu(self.linear_1(context)))


def rope_tables(config: TransformerConfig, stream: str, positions: np.ndarray) -> tuple[Rope, Rope]:
    """Tables of a stream's self-attention, and of its attention to the other stream.

    ``positions`` is (B, axes, T, 2); the middle of each interval counts. The second table has the
    time axis only, in the scale that both streams share.
    """
    middles = (positions[..., 0] + positions[..., 1]) / np.float32(2)
    video = stream == "video"
    max_pos = (
        config.positional_embedding_max_pos if video else config.audio_positional_embedding_max_pos
    )
    shared = max(
        config.positional_embedding_max_pos[0], config.audio_positional_embedding_max_pos[0]
    )
    theta, precision = config.positional_embedding_theta, config.frequencies_precision
    own = rope_table(
        middles,
        dim=config.dim if video else config.audio_dim,
        num_heads=config.num_attention_heads,
        theta=theta,
        max_pos=max_pos,
        precision=precision,
    )
    cross = rope_table(
        middles[:, :1],
        dim=config.audio_cross_attention_dim,
        num_heads=config.audio_num_attention_heads,
        theta=theta,
        max_pos=[shared],
        precision=precision,
    )
    return own, cross


def _keep(_path: str) -> None:
    """Forget nothing: the weights are in memory for good."""


def _keep_to_bias(mask: mx.array, dtype: mx.Dtype) -> mx.array:
    """1 keeps a token, 0 hides it, as a bias (B, 1, 1, S)."""
    bias = (mask.astype(mx.float32) - 1) * mx.finfo(dtype).max
    return bias.astype(dtype)[:, None, None, :]


def _weight_to_bias(weights: mx.array, dtype: mx.Dtype) -> mx.array:
    """Weights in [0, 1] as a bias (B, 1, T, T): their logarithm, and the least number for 0."""
    limits = mx.finfo(dtype)
    tiny = float(np.finfo(np.float32).tiny)
    logarithm = mx.log(mx.maximum(weights.astype(mx.float32), tiny))
    return mx.where(weights > 0, logarithm, limits.min).astype(dtype)[:, None]


def _switches(
    perturbations: Sequence[Sequence[Perturbation]], enabled: Collection[str], index: int
) -> Switches:
    """What block ``index`` computes for a batch with these perturbations."""

    def keep(name: Skippable) -> Keep:
        skipped = [
            any(p.skip == name and (p.blocks is None or index in p.blocks) for p in sample)
            for sample in perturbations
        ]
        if not any(skipped):
            return True
        if all(skipped):
            return False
        return mx.array([not skip for skip in skipped], mx.float32)[:, None, None]

    return Switches(
        video="video" in enabled,
        audio="audio" in enabled,
        video_self_attention=keep("video_self_attention"),
        audio_self_attention=keep("audio_self_attention"),
        audio_to_video=keep("audio_to_video"),
        video_to_audio=keep("video_to_audio"),
    )
