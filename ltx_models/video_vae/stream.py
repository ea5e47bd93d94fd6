"""Decoding a clip a few frames at a time, each frame as the whole clip would have it.

Every layer passes on what it can compute already and keeps the last frames that its next ones need
as well, so that nothing is computed twice and nothing is blended. The memory that it takes is that
of a few frames and of what the layers keep, whatever the length of the clip.

A layer is a function from an iterator of frames (B, f, H, W, C), of any f, to another one.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat
from typing import TypeGuard

import mlx.core as mx
import mlx.nn as nn

from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.layers import (
    CausalConv3d,
    ResnetBlock,
    ResnetStack,
    Upsample,
    norm_silu,
    unpatchify,
)
from ltx_models.video_vae.reach import sees_all

Frames = Iterator[mx.array]

AT_ONCE = 4  # frames that a layer computes at a time, or latents where they enter


def decode_in_turn(
    decoder: VideoDecoder, latents: mx.array, *, at_once: int = AT_ONCE
) -> Iterator[mx.array]:
    """As ``decoder(latents)``, in parts that follow on in time: yields (B, 3, f, H, W), evaluated.

    Raises ValueError for a decoder that norms over the whole clip (``sees_all``).
    """
    if sees_all(decoder.config):
        raise ValueError("this decoder has a norm over all frames, and cannot go through them")
    dtype = decoder.conv_in.conv.weight.dtype
    latents = decoder.per_channel_statistics.un_normalize(latents.astype(dtype).moveaxis(1, -1))
    x = _conv(decoder.conv_in, _cut(iter([latents]), at_once))
    for block in decoder.up_blocks:
        x = _cut(_block(block, x), at_once)
    for frames in _conv(decoder.conv_out, map(norm_silu, x)):
        video = unpatchify(frames, decoder.config.patch_size)
        del frames
        mx.eval(video)
        yield video
        del video  # before the next ones are computed


def _block(block: nn.Module, x: Frames) -> Frames:
    match block:
        case ResnetStack():
            for inner in block.res_blocks:
                x = _resnet(inner, x)
            return x
        case ResnetBlock():
            return _resnet(block, x)
        case Upsample():
            return _upsample(block, x)
    raise TypeError(f"no way through a {type(block).__name__}")


def _resnet(layer: ResnetBlock, x: Frames) -> Frames:
    waiting = _Waiting()
    h = _conv(layer.conv1, map(norm_silu, map(waiting.keep, x)))
    h = _conv(layer.conv2, map(norm_silu, h))

    def add(update: mx.array) -> mx.array:
        return update + waiting.take(update.shape[1])

    return map(add, h)


def _upsample(layer: Upsample, x: Frames) -> Frames:
    waiting = _Waiting()

    def unfold(frames: mx.array, is_first: bool) -> mx.array:
        y = layer.unfold(frames, waiting.take(frames.shape[1]))
        return y[:, 1:] if is_first and layer.stride[0] == 2 else y

    return map(unfold, _conv(layer.conv, map(waiting.keep, x)), chain([True], repeat(False)))


def _conv(layer: CausalConv3d, x: Frames) -> Frames:
    """The layer's frames as soon as those that they look at are there."""
    window = _Window(layer)
    at_end = (window.end() for _ in range(1))
    # No generator with variables: what it gave last would stay in memory until it goes on.
    return filter(_is_there, chain(map(window.add, x), at_end))


def _is_there(frames: mx.array | None) -> TypeGuard[mx.array]:
    return frames is not None


class _Window:
    """The last frames that a convolution was given, which the next ones are computed with."""

    def __init__(self, layer: CausalConv3d):
        self.layer = layer
        self.kept: mx.array | None = None

    def add(self, frames: mx.array) -> mx.array | None:
        """What can be computed now, evaluated; None for too few frames."""
        if self.kept is None:
            self.kept = mx.repeat(frames[:, :1], 2 if self.layer.causal else 1, axis=1)
        return self._compute(frames)

    def end(self) -> mx.array | None:
        """What follows when no more frames come: the last one is repeated unless it is causal."""
        if self.kept is None or self.layer.causal:
            return None
        return self._compute(self.kept[:, -1:])

    def _compute(self, frames: mx.array) -> mx.array | None:
        assert self.kept is not None
        window = mx.concatenate([self.kept, frames], axis=1)
        self.kept = mx.contiguous(window[:, -2:])  # a copy, as a slice would keep all of it
        if window.shape[1] < 3:
            return None
        y = self.layer.convolve(window)
        mx.eval(y, self.kept)
        return y


class _Waiting:
    """Frames that went by and are to be added to what is computed from them."""

    def __init__(self):
        self.frames: deque[mx.array] = deque()

    def keep(self, frames: mx.array) -> mx.array:
        """The same frames, which are kept until they are taken."""
        self.frames.append(frames)
        return frames

    def take(self, count: int) -> mx.array:
        """The oldest frames, which are kept no longer."""
        taken: list[mx.array] = []
        while count:
            frames = self.frames.popleft()
            if frames.shape[1] > count:
                rest = mx.contiguous(frames[:, count:])
                mx.eval(rest)
                self.frames.appendleft(rest)
                frames = frames[:, :count]
            taken.append(frames)
            count -= frames.shape[1]
        return taken[0] if len(taken) == 1 else mx.concatenate(taken, axis=1)


def _cut(x: Frames, at_once: int) -> Frames:
    """The same frames, so many at a time at most."""
    for frames in x:
        for start in range(0, frames.shape[1], at_once):
            yield frames[:, start : start + at_once]
