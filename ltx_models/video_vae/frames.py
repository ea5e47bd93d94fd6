"""The frames of a clip, decoded as they are wanted: in tiles of the picture, a few at a time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import mlx.core as mx

from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.reach import sees_all
from ltx_models.video_vae.stream import decode_in_turn
from ltx_models.video_vae.tiling import (
    FRAMES,
    SPACE,
    UNTILED,
    TileSize,
    Tiling,
    auto_tiling,
    spatial_tiles,
    split_axes,
    stream_frames,
    to_pixels,
)

TilingName = Literal["auto", "none", "conservative", "aggressive"]

SMALL_SPACE = TileSize(256, 64)


def named_tiling(name: TilingName, height: int, width: int, *, scale: VideoScale) -> Tiling | None:
    """The tiles of a picture of ``height`` x ``width`` latents, for ``decode_frames``; no groups.

    None where the whole clip is decoded at once.
    """
    match name:
        case "none":
            return None
        case "auto":
            return replace(auto_tiling(height, width, scale=scale), frames=TileSize())
        case "conservative":
            return Tiling(height=SPACE, width=SPACE)
        case "aggressive":
            return Tiling(height=SMALL_SPACE, width=SMALL_SPACE)


def decode_frames(
    decoder: VideoDecoder, latents: mx.array, tiling: Tiling | None = UNTILED
) -> Iterator[mx.array]:
    """The frames of one clip (1, C, F', H', W') in order: yields (f, H, W, 3) in [0, 1].

    A few frames at a time, all tiles of a picture beside each other; None decodes the whole clip at
    once. The frames are the same for any number of them; tiles are blended along height and width
    alone, or along time, too, for a decoder that norms over all frames. Raises as ``stream_frames``
    does.
    """
    if tiling is None:
        yield from stream_frames(decoder, latents, UNTILED)
    elif sees_all(decoder.config):
        yield from stream_frames(decoder, latents, replace(tiling, frames=FRAMES))
    else:
        for video in _in_turn(decoder, latents, tiling):
            frames = mx.clip((video[0] + 1) / 2, 0, 1).moveaxis(0, -1)
            mx.eval(frames)
            del video
            yield frames
            del frames


def _in_turn(decoder: VideoDecoder, latents: mx.array, tiling: Tiling) -> Iterator[mx.array]:
    """As ``tiled_decode`` without groups of frames, a few frames at a time."""
    shape = (latents.shape[2], latents.shape[3], latents.shape[4])
    space = decoder.config.scale.space
    _, rows, columns = split_axes(tiling, shape, decoder.config.scale)
    if len(rows) == len(columns) == 1:
        yield from decode_in_turn(decoder, latents)
        return
    tiles = list(spatial_tiles(decoder, tiling, rows, columns))
    parts = [decode_in_turn(decoder, latents[..., r.span, c.span]) for r, c, _ in tiles]
    while (first := next(parts[0], None)) is not None:
        video = mx.zeros((*first.shape[:3], shape[1] * space, shape[2] * space))
        for number, (row, column, weights) in enumerate(tiles):
            part = next(parts[number]) if number else first
            h, w = to_pixels(row, space), to_pixels(column, space)
            video[..., h.span, w.span] += part * weights
            mx.eval(video)
            del part
        yield video
        del video
