"""Encoding and decoding in overlapping tiles, and as a stream of frames (spec/model.md 4.4).

The memory that it takes is that of a tile, and of one group of frames, not that of the clip.
Groups of frames are blended here as the reference does it; clips are made by
``frames.decode_frames``, which goes through the frames instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce
from itertools import product
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.reach import Reach, receptive_field

MIN_ENCODE_OVERLAPS = {"frames": 16, "height": 64, "width": 64}


@dataclass(frozen=True)
class TileSize:
    """Size and overlap of the tiles along one axis, in frames or pixels; size 0 is one tile."""

    size: int = 0
    overlap: int = 0


@dataclass(frozen=True)
class Tiling:
    """How a clip is cut along each of its axes."""

    frames: TileSize = TileSize()
    height: TileSize = TileSize()
    width: TileSize = TileSize()


UNTILED = Tiling()
FRAMES = TileSize(80, 24)
SPACE = TileSize(768, 64)
DEFAULT_TILING = Tiling(FRAMES, SPACE, SPACE)


def auto_tiling(height: int, width: int, *, scale: VideoScale) -> Tiling:
    """The reference's choice for a clip of ``height`` x ``width`` latents.

    Tiles of 768 pixels along the longer side and in proportion along the shorter one.
    """
    least = SPACE.overlap // scale.space + 1
    most = SPACE.size // scale.space

    def side(length: int) -> TileSize:
        num_latents = max(least, round(most * length / max(height, width)))
        return TileSize(scale.space * num_latents, SPACE.overlap)

    return Tiling(FRAMES, side(height), side(width))


class Tile(NamedTuple):
    """A stretch of one axis, and how many of its first and last places are blended with others."""

    start: int
    stop: int
    left: int
    right: int

    @property
    def span(self) -> slice:
        """From start to stop."""
        return slice(self.start, self.stop)


def split(length: int, *, size: int, overlap: int, causal: bool = False) -> list[Tile]:
    """Tiles along an axis of ``length`` latents; the last may be short.

    Causal (along time): every tile but the first starts a latent earlier, as the first latent of a
    tile stands for one frame, and so does not repeat what the latent was in the clip.
    """
    if not size or length <= size:
        return [Tile(0, length, 0, 0)]
    starts = list(range(0, length - overlap, size - overlap))
    tiles = [Tile(start, min(start + size, length), overlap, overlap) for start in starts]
    if causal:
        tiles = [Tile(tile.start - 1, tile.stop, tile.left + 1, tile.right) for tile in tiles]
    tiles[0] = tiles[0]._replace(start=0, left=0)
    tiles[-1] = tiles[-1]._replace(right=0)
    return tiles


def to_pixels(tile: Tile, scale: int) -> Tile:
    """A tile of latents, in pixels."""
    return Tile(*(scale * place for place in tile))


def to_frames(tile: Tile, scale: int) -> Tile:
    """A tile of latents, in frames: the first latent is one frame, each further one ``scale``."""
    start, stop, left, right = tile
    left = 1 + (left - 1) * scale if left else 0
    return Tile(start * scale, 1 + (stop - 1) * scale, left, right * scale)


def blend_weights(
    tiles: list[Tile], *, from_zero: bool = False, strange: tuple[int, int] = (0, 0)
) -> list[np.ndarray]:
    """The weight of every place of every tile; those of one place sum to 1.

    Each tile is a trapezoid. ``from_zero``: its left ramp starts at 0 instead of at the first step.
    ``strange`` places at its first and at its last end, where it meets others, have no weight.
    """
    total = np.zeros(tiles[-1].stop)
    masks = [_trapezoid(tile, from_zero=from_zero) for tile in tiles]
    for tile, mask in zip(tiles, masks, strict=True):
        mask[: strange[0] if tile.left else 0] = 0
        mask[len(mask) - (strange[1] if tile.right else 0) :] = 0
    for tile, mask in zip(tiles, masks, strict=True):
        total[tile.span] += mask
    return [
        (mask / total[tile.span]).astype(np.float32)
        for tile, mask in zip(tiles, masks, strict=True)
    ]


def _trapezoid(tile: Tile, *, from_zero: bool) -> np.ndarray:
    start, stop, left, right = tile
    mask = np.ones(stop - start)
    rise = np.linspace(0, 1, left + 1)[:-1] if from_zero else np.linspace(0, 1, left + 2)[1:-1]
    mask[:left] *= rise
    mask[len(mask) - right :] *= np.linspace(1, 0, right + 2)[1:-1]
    return mask


def tiled_encode(
    encoder: VideoEncoder, video: mx.array, tiling: Tiling = DEFAULT_TILING
) -> mx.array:
    """As ``encoder(video)``, tile by tile: (B, 3, F, H, W) to (B, C, F', H', W').

    Raises UserError for tiles of parts of latents, and for overlaps of less than 16 frames or 64
    pixels: a tile is encoded without a look at what lies around it.
    """
    for name, least in MIN_ENCODE_OVERLAPS.items():
        axis: TileSize = getattr(tiling, name)
        if axis.size and axis.overlap < least:
            raise UserError(
                f"tiling.{name}: tiles must overlap by {least} at least to be encoded, "
                f"got {axis.overlap}"
            )
    video = encoder.crop(video)
    B, _, F, H, W = video.shape
    time, space = encoder.config.scale
    shape = ((F - 1) // time + 1, H // space, W // space)
    frames, rows, columns = split_axes(tiling, shape, encoder.config.scale)
    latents = mx.zeros((B, encoder.config.latent_channels, *shape))
    for (f, f_weights), (h, h_weights), (w, w_weights) in product(
        _weighted(frames, from_zero=True), _weighted(rows), _weighted(columns)
    ):
        pixels = (to_frames(f, time).span, to_pixels(h, space).span, to_pixels(w, space).span)
        part = encoder(video[:, :, *pixels])
        latents[:, :, f.span, h.span, w.span] += part * _volume(f_weights, h_weights, w_weights)
        mx.eval(latents)
    return latents


def tiled_decode(
    decoder: VideoDecoder, latents: mx.array, tiling: Tiling = DEFAULT_TILING
) -> Iterator[mx.array]:
    """As ``decoder(latents)``, tile by tile: yields (B, 3, f, H, W), which follow on in time.

    Each is evaluated before it is yielded. Tiles that overlap by as much as the decoder looks at
    give what it gives itself; those that overlap by less are blended as in the reference. Raises
    UserError for tiles of parts of latents.
    """
    shape = (latents.shape[2], latents.shape[3], latents.shape[4])
    groups, rows, columns = split_axes(tiling, shape, decoder.config.scale)
    strange = _strange_frames(decoder, tiling)
    spans = [to_frames(group, decoder.config.scale.time) for group in groups]
    stops = [*(span.start for span in spans[1:]), spans[-1].stop]
    pending = None  # what the groups before say of frames that the next group has a share in
    for group, (span, weights), stop in zip(
        groups, _weighted(spans, from_zero=True, strange=strange), stops, strict=True
    ):
        video = _decode_group(decoder, latents[:, :, group.span], tiling, rows, columns)
        video = video * mx.array(weights)[:, None, None]
        if pending is not None:
            video[:, :, : pending.shape[2]] += pending
        num_done = stop - span.start
        # Copies, as a slice would keep the whole group in memory.
        chunk = mx.contiguous(video[:, :, :num_done])
        pending = mx.contiguous(video[:, :, num_done:])
        mx.eval(chunk, pending)
        del video
        yield chunk
        del chunk  # before the next group is computed


def stream_frames(
    decoder: VideoDecoder, latents: mx.array, tiling: Tiling = UNTILED
) -> Iterator[mx.array]:
    """The frames of one clip (1, C, F', H', W') in order: yields (f, H, W, 3) in [0, 1].

    One group of tiles at a time is decoded, evaluated and yielded; untiled, that is the clip.
    Raises ValueError for several clips and UserError for tiles of parts of latents.
    """
    if len(latents) != 1:
        raise ValueError(f"frames are decoded of one clip at a time, got {len(latents)}")
    for chunk in tiled_decode(decoder, latents, tiling):
        frames = mx.clip((chunk[0] + 1) / 2, 0, 1).moveaxis(0, -1)
        mx.eval(frames)
        del chunk
        yield frames
        del frames


def spatial_tiles(
    decoder: VideoDecoder, tiling: Tiling, rows: list[Tile], columns: list[Tile]
) -> Iterator[tuple[Tile, Tile, mx.array]]:
    """Each tile's rows and columns of latents, and the weights (h, w) of its pixels."""
    space = decoder.config.scale.space
    field = receptive_field(decoder.config)
    tall, wide = (
        blend_weights(
            [to_pixels(tile, space) for tile in tiles],
            strange=_strange(field.space if field else None, size.overlap // space, space),
        )
        for tiles, size in ((rows, tiling.height), (columns, tiling.width))
    )
    for row, h in zip(rows, tall, strict=True):
        for column, w in zip(columns, wide, strict=True):
            yield row, column, _volume(h, w)


def _strange(reach: Reach | None, overlap: int, unit: int) -> tuple[int, int]:
    """How many places at both ends of a tile are not as they would be in the clip.

    None is counted where tiles do not overlap by so much that others have all those places.
    """
    if reach is None or sum(reach) > overlap:
        return 0, 0
    return reach.before * unit, reach.after * unit


def _strange_frames(decoder: VideoDecoder, tiling: Tiling) -> tuple[int, int]:
    field, unit = receptive_field(decoder.config), decoder.config.scale.time
    # A tile begins a latent earlier than it would for its overlap, with one frame of it.
    overlap = tiling.frames.overlap // unit + 1
    before, after = _strange(field.time if field else None, overlap, unit)
    return (before - unit + 1 if before else 0), after


def split_axes(
    tiling: Tiling, shape: tuple[int, int, int], scale: VideoScale
) -> tuple[list[Tile], list[Tile], list[Tile]]:
    """Tiles of latents along frames, height and width."""
    axes = zip(fields(tiling), shape, (scale.time, scale.space, scale.space), strict=True)
    frames, rows, columns = (
        _split_axis(axis.name, getattr(tiling, axis.name), length, unit)
        for axis, length, unit in axes
    )
    return frames, rows, columns


def _split_axis(name: str, tile: TileSize, length: int, unit: int) -> list[Tile]:
    if tile.size % unit or tile.overlap % unit:
        raise UserError(
            f"tiling.{name}: size and overlap must be multiples of {unit}, "
            f"got {tile.size} and {tile.overlap}"
        )
    if tile.size and not 0 <= tile.overlap < tile.size:
        raise UserError(
            f"tiling.{name}: the overlap must be less than the size, "
            f"got {tile.size} and {tile.overlap}"
        )
    return split(
        length, size=tile.size // unit, overlap=tile.overlap // unit, causal=name == "frames"
    )


def _decode_group(
    decoder: VideoDecoder,
    latents: mx.array,
    tiling: Tiling,
    rows: list[Tile],
    columns: list[Tile],
) -> mx.array:
    """All spatial tiles of some frames' latents, blended: (B, 3, f, H, W)."""
    if len(rows) == len(columns) == 1:
        return decoder(latents)
    B, _, F, H, W = latents.shape
    time, space = decoder.config.scale
    num_frames = (F - 1) * time + 1
    video = mx.zeros((B, decoder.config.out_channels, num_frames, H * space, W * space))
    for row, column, weights in spatial_tiles(decoder, tiling, rows, columns):
        part = decoder(latents[..., row.span, column.span])
        h, w = to_pixels(row, space), to_pixels(column, space)
        video[..., h.span, w.span] += part * weights
        mx.eval(video)
    return video


def _weighted(
    tiles: list[Tile], *, from_zero: bool = False, strange: tuple[int, int] = (0, 0)
) -> list[tuple[Tile, np.ndarray]]:
    weights = blend_weights(tiles, from_zero=from_zero, strange=strange)
    return list(zip(tiles, weights, strict=True))


def _volume(*weights: np.ndarray) -> mx.array:
    """The product of weights along successive axes, float32."""
    return mx.array(reduce(np.multiply.outer, weights).astype(np.float32))
