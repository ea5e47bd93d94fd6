"""One transformer block: two streams, video and audio, that attend to each other (spec 3.3).

Module names are those of the released checkpoints, so that weights load without renaming and a
LoRA target such as "audio_attn1.to_q" means here what it means everywhere else.
"""

from functools import partial
from typing import Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.transformer.attention import Attention, FeedForward, Keep
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.rope import Rope
from ltx_models.transformer.timestep import Modulation

# Rows of a scale-shift table, and which sub-layer each belongs to.
SELF_ATTENTION, FEED_FORWARD, TEXT_ATTENTION = slice(0, 3), slice(3, 6), slice(6, 9)
AUDIO_TO_VIDEO, VIDEO_TO_AUDIO, CROSS_GATE = slice(0, 2), slice(2, 4), slice(4, 5)
PROMPT, ONLY_ROW = slice(0, 2), slice(0, 1)

StreamName = Literal["video", "audio"]
Streams = tuple[StreamName, ...]  # in this order


class Stream(NamedTuple):
    """One modality on its way through the blocks.

    A NamedTuple because mx.compile rejects dataclasses and mx.checkpoint zeroes the gradient of
    arrays held in one.
    """

    x: mx.array  # (B, T, dim)
    context: mx.array  # (B, S, context_dim), the encoded prompt
    context_mask: mx.array | None  # additive, (B, 1, 1, S)
    attention_mask: mx.array | None  # additive, (B, 1, T, T)
    rope: Rope
    cross_rope: Rope | None  # time axis only, in the scale that both modalities share
    modulation: Modulation  # 6 or 9 rows
    prompt_modulation: Modulation | None  # 2 rows
    cross_modulation: Modulation | None  # 4 rows
    cross_gate: Modulation | None  # 1 row


class Switches(NamedTuple):
    """What a block computes: a whole stream, and four attentions that guidance can skip."""

    video: bool = True
    audio: bool = True
    video_self_attention: Keep = True
    audio_self_attention: Keep = True
    audio_to_video: Keep = True
    video_to_audio: Keep = True


class TransformerBlock(nn.Module):
    """Self-attention, text attention, attention to the other stream, feed-forward; each gated."""

    def __init__(self, config: TransformerConfig, *, streams: Streams):
        super().__init__()
        self._eps = config.norm_eps
        rows = 9 if config.cross_attention_adaln else 6
        attention = partial(
            Attention,
            num_heads=config.num_attention_heads,
            gated=config.apply_gated_attention,
            eps=config.norm_eps,
        )
        dims = {
            "video": (config.dim, config.cross_attention_dim, config.attention_head_dim),
            "audio": (
                config.audio_dim,
                config.audio_cross_attention_dim,
                config.audio_attention_head_dim,
            ),
        }
        for stream in streams:
            dim, context_dim, head_dim = dims[stream]
            at = prefix(stream)
            self[f"{at}attn1"] = attention(dim, head_dim=head_dim)
            self[f"{at}attn2"] = attention(dim, head_dim=head_dim, context_dim=context_dim)
            self[f"{at}ff"] = FeedForward(dim)
            self[f"{at}scale_shift_table"] = mx.zeros((rows, dim))
            if config.cross_attention_adaln:
                self[f"{at}prompt_scale_shift_table"] = mx.zeros((2, dim))

        if len(streams) == 2:
            head_dim = config.audio_attention_head_dim
            video, audio = config.dim, config.audio_dim
            self.audio_to_video_attn = attention(video, head_dim=head_dim, context_dim=audio)
            self.video_to_audio_attn = attention(audio, head_dim=head_dim, context_dim=video)
            self.scale_shift_table_a2v_ca_video = mx.zeros((5, video))
            self.scale_shift_table_a2v_ca_audio = mx.zeros((5, audio))

    def __call__(
        self, video: Stream | None, audio: Stream | None, switches: Switches
    ) -> tuple[Stream | None, Stream | None]:
        """Streams in, streams out; an absent one stays None, a switched-off one unchanged."""
        if video is not None and switches.video:
            video = self._attend(video, "video", switches.video_self_attention)
        if audio is not None and switches.audio:
            audio = self._attend(audio, "audio", switches.audio_self_attention)
        if video is not None and audio is not None:
            video, audio = self._exchange(video, audio, switches)
        if video is not None and switches.video:
            video = self._feed_forward(video, "video")
        if audio is not None and switches.audio:
            audio = self._feed_forward(audio, "audio")
        return video, audio

    def _attend(self, stream: Stream, name: StreamName, keep: Keep) -> Stream:
        at = prefix(name)
        table = self[f"{at}scale_shift_table"]
        shift, scale, gate = stream.modulation.with_table(table, SELF_ATTENTION)
        attended = self[f"{at}attn1"](
            self._norm(stream.x, shift, scale),
            rope=stream.rope,
            mask=stream.attention_mask,
            keep=keep,
        )
        return self._read_prompt(stream._replace(x=stream.x + gate * attended), at)

    def _read_prompt(self, stream: Stream, at: str) -> Stream:
        attention, mask = self[f"{at}attn2"], stream.context_mask
        if stream.prompt_modulation is None:  # LTX-2.0: neither modulated nor gated
            normed = mx.fast.rms_norm(stream.x, None, self._eps)
            return stream._replace(x=stream.x + attention(normed, stream.context, mask=mask))
        table, prompt_table = self[f"{at}scale_shift_table"], self[f"{at}prompt_scale_shift_table"]
        shift, scale, gate = stream.modulation.with_table(table, TEXT_ATTENTION)
        prompt_shift, prompt_scale = stream.prompt_modulation.with_table(prompt_table, PROMPT)
        context = stream.context * (1 + prompt_scale) + prompt_shift
        read = attention(self._norm(stream.x, shift, scale), context, mask=mask)
        return stream._replace(x=stream.x + gate * read)

    def _exchange(self, video: Stream, audio: Stream, switches: Switches) -> tuple[Stream, Stream]:
        """Both directions read the streams as they stood before either was updated."""
        new_video, new_audio = video, audio
        if switches.video and switches.audio_to_video is not False:
            new_video = self._read_other("video", video, audio, switches.audio_to_video)
        if switches.audio and switches.video_to_audio is not False:
            new_audio = self._read_other("audio", audio, video, switches.video_to_audio)
        return new_video, new_audio

    def _read_other(self, name: StreamName, stream: Stream, other: Stream, keep: Keep) -> Stream:
        if name == "video":
            rows, attention, other_name = AUDIO_TO_VIDEO, self.audio_to_video_attn, "audio"
        else:
            rows, attention, other_name = VIDEO_TO_AUDIO, self.video_to_audio_attn, "video"
        table = self[f"scale_shift_table_a2v_ca_{name}"]
        other_table = self[f"scale_shift_table_a2v_ca_{other_name}"]
        assert stream.cross_modulation is not None
        assert other.cross_modulation is not None
        assert stream.cross_gate is not None

        # Scale comes before shift in these tables, and the gate has an embedding of its own.
        scale, shift = stream.cross_modulation.with_table(table[:4], rows)
        other_scale, other_shift = other.cross_modulation.with_table(other_table[:4], rows)
        (gate,) = stream.cross_gate.with_table(table[CROSS_GATE], ONLY_ROW)
        update = attention(
            self._norm(stream.x, shift, scale),
            self._norm(other.x, other_shift, other_scale),
            rope=stream.cross_rope,
            context_rope=other.cross_rope,
        )
        update = gate * update
        if isinstance(keep, mx.array):
            update = update * keep.astype(update.dtype)
        return stream._replace(x=stream.x + update)

    def _feed_forward(self, stream: Stream, name: StreamName) -> Stream:
        at = prefix(name)
        table = self[f"{at}scale_shift_table"]
        shift, scale, gate = stream.modulation.with_table(table, FEED_FORWARD)
        return stream._replace(
            x=stream.x + gate * self[f"{at}ff"](self._norm(stream.x, shift, scale))
        )

    def _norm(self, x: mx.array, shift: mx.array, scale: mx.array) -> mx.array:
        """rms(x) * (1 + scale) + shift."""
        if scale.size == x.shape[-1]:  # one row for all tokens: the norm applies it on its way
            return mx.fast.rms_norm(x, (1 + scale).reshape(-1), self._eps) + shift
        return mx.fast.rms_norm(x, None, self._eps) * (1 + scale) + shift


def prefix(stream: StreamName) -> str:
    """The checkpoint names video modules plainly and audio modules with a prefix."""
    return "" if stream == "video" else "audio_"
