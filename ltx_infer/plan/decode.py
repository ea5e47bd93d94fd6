"""What decoding a picture takes beside the decoder's weights, by the tiles it is cut into."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.plan.peak import Pace, peak
from ltx_infer.plan.tape import trace
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.frames import TilingName, named_tiling
from ltx_models.video_vae.layers import (
    CausalConv3d,
    ResnetBlock,
    ResnetStack,
    Upsample,
    norm_silu,
    unpatchify,
)
from ltx_models.video_vae.reach import sees_all
from ltx_models.video_vae.stream import AT_ONCE
from ltx_models.video_vae.tiling import FRAMES, UNTILED, split_axes

KEPT = 2  # frames that a convolution keeps for the next ones
LAST = 4  # copies of a chunk of pixels: decoded, weighted, in range, as frames
FLOAT = 4  # bytes of a pixel's number

LatentSize = tuple[int, int, int]  # frames, rows, columns


class _Frames(NamedTuple):
    """Frames between two layers: how many come in turn, and the shape of one."""

    counts: tuple[int, ...]
    rows: int
    columns: int
    channels: int

    @property
    def most(self) -> int:
        """The most at a time."""
        return max(self.counts)

    def of(self, count: int) -> tuple[int, int, int, int, int]:
        """The shape of so many."""
        return 1, count, self.rows, self.columns, self.channels


def decode_bytes(
    decoder: VideoDecoder, size: LatentSize, name: TilingName, *, dtype: mx.Dtype, pace: Pace
) -> int:
    """Bytes for a clip of ``size`` latents, cut as ``frames.decode_frames`` cuts it."""
    scale = decoder.config.scale
    tiling = named_tiling(name, *size[1:], scale=scale)
    whole = tiling is None or sees_all(decoder.config)
    if tiling is not None and sees_all(decoder.config):
        tiling = replace(tiling, frames=FRAMES)
    groups, rows, columns = split_axes(tiling or UNTILED, size, scale)
    tiles = [
        (max(g.stop - g.start for g in groups), row.stop - row.start, column.stop - column.start)
        for row in rows
        for column in columns
    ]
    tall, wide = size[1] * scale.space, size[2] * scale.space
    frame = FLOAT * decoder.config.out_channels * tall * wide
    largest = max(tiles)
    if whole:
        at_once = _at_once(decoder, largest, dtype=dtype, pace=pace)
        num_frames = (largest[0] - 1) * scale.time + 1
        return max(at_once + (len(tiles) > 1) * num_frames * frame, LAST * num_frames * frame)
    parts = {tile: in_turn_bytes(decoder, tile, dtype=dtype, pace=pace) for tile in set(tiles)}
    total = sum(parts[tile].kept for tile in tiles)
    total += max(part.momentary for part in parts.values())
    num_frames = min(AT_ONCE, (size[0] - 1) * scale.time + 1)
    return total + (2 if len(tiles) > 1 else 0) * num_frames * frame


def _at_once(decoder: VideoDecoder, size: LatentSize, *, dtype: mx.Dtype, pace: Pace) -> int:
    latents = mx.zeros((1, decoder.config.latent_channels, *size), dtype)
    return peak(trace(decoder, lambda x: decoder(x), latents), pace=pace)


class InTurn(NamedTuple):
    """Bytes of one tile that is decoded a few frames at a time (video_vae/stream.py)."""

    kept: int  # between two turns
    momentary: int  # on top, while the largest layer is computed


def in_turn_bytes(
    decoder: VideoDecoder, size: LatentSize, *, dtype: mx.Dtype, pace: Pace
) -> InTurn:
    """Follow the frames through the layers, from latents to pixels."""
    walk = _Walk(dtype, pace)
    channels = decoder.config.latent_channels
    frames = _Frames(_cut((size[0],)), size[1], size[2], channels)
    frames = walk.convolve(decoder.conv_in, frames, lambda x: x)
    frames = frames._replace(counts=_cut(frames.counts))
    for block in decoder.up_blocks:
        for layer in block.res_blocks if isinstance(block, ResnetStack) else [block]:
            assert isinstance(layer, ResnetBlock | Upsample)
            frames = walk.layer(layer, frames)
        frames = frames._replace(counts=_cut(frames.counts))
    patch = decoder.config.patch_size
    walk.convolve(decoder.conv_out, frames, norm_silu, then=lambda y: unpatchify(y, patch))
    return InTurn(walk.kept, walk.momentary)


class _Walk:
    """What the layers so far keep, and the most that one takes while it computes."""

    def __init__(self, dtype: mx.Dtype, pace: Pace):
        self.dtype, self.pace = dtype, pace
        self.kept = self.momentary = 0

    def layer(self, layer: ResnetBlock | Upsample, frames: _Frames) -> _Frames:
        if isinstance(layer, ResnetBlock):
            self.keep(frames, KEPT)  # that wait for what is added to them
            frames = self.convolve(layer.conv1, frames, norm_silu)
            return self.convolve(layer.conv2, frames, norm_silu, beside=frames)
        self.keep(frames, 1)
        t, h, w = layer.stride
        inner = layer.conv.conv.weight.shape[0]
        convolved = self.convolve(
            layer.conv,
            frames,
            lambda x: x,
            then=lambda y: layer.unfold(y, mx.zeros(frames.of(y.shape[1]), self.dtype)),
        )
        counts = [t * count for count in convolved.counts]
        counts[0] -= t - 1
        unfolded = _Frames(tuple(counts), frames.rows * h, frames.columns * w, inner // (t * h * w))
        self.keep(unfolded, unfolded.most)  # until all are taken, some at a time
        return unfolded

    def keep(self, frames: _Frames, count: int) -> None:
        self.kept += self.dtype.size * _product(frames.of(count))

    def convolve(
        self,
        conv: CausalConv3d,
        frames: _Frames,
        before: Callable[[mx.array], mx.array],
        *,
        then: Callable[[mx.array], mx.array] = lambda y: y,
        beside: _Frames | None = None,
    ) -> _Frames:
        """One convolution's turn; ``beside`` are frames that wait meanwhile."""
        self.keep(frames, KEPT)
        given = [mx.zeros(frames.of(count), self.dtype) for count in (KEPT, frames.most)]

        def turn(kept: mx.array, x: mx.array) -> list[mx.array]:
            window = mx.concatenate([kept, before(x)], axis=1)
            return [then(conv.convolve(window)), window[:, -KEPT:] + 0]

        own = peak(trace(conv, turn, *given), pace=self.pace)
        waiting = sum(each.nbytes for each in given[1:])
        if beside is not None:
            waiting += self.dtype.size * _product(beside.of(beside.most))
        self.momentary = max(self.momentary, own + waiting)
        counts = _convolved(frames.counts, causal=conv.causal)
        return frames._replace(counts=counts, channels=conv.conv.weight.shape[0])


def _cut(counts: Sequence[int]) -> tuple[int, ...]:
    """So many at a time at most."""
    return tuple(
        min(AT_ONCE, count - start) for count in counts for start in range(0, count, AT_ONCE)
    )


def _convolved(counts: Sequence[int], *, causal: bool) -> tuple[int, ...]:
    """What a convolution over three frames makes of these: none until it has seen what follows."""
    found, there = [], 2 if causal else 1
    for count in (*counts, *([] if causal else [1])):
        if there + count > KEPT:
            found.append(there + count - KEPT)
        there = min(there + count, KEPT)
    return tuple(found)


def _product(sides: Sequence[int]) -> int:
    total = 1
    for side in sides:
        total *= side
    return total
