import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae import VideoDecoder, VideoEncoder
from ltx_models.video_vae.tiling import (
    DEFAULT_TILING,
    UNTILED,
    Tile,
    TileSize,
    Tiling,
    auto_tiling,
    blend_weights,
    split,
    stream_frames,
    tiled_decode,
    tiled_encode,
    to_frames,
    to_pixels,
)
from tests.models.video_vae.ladders import config, make_local, randomise_statistics

RELEASED = VideoScale(time=8, space=32)


@st.composite
def axes(draw):
    size = draw(st.integers(1, 4))
    return draw(st.integers(1, 9)), size, draw(st.integers(0, size - 1))


@given(axis=axes(), causal=st.booleans())
@settings(deadline=None)
def test_weights_sum_to_one(axis, causal):
    length, size, overlap = axis
    tiles = split(length, size=size, overlap=overlap, causal=causal)
    for unit in (1, 8):
        for convert in (to_frames, to_pixels) if causal else (to_pixels,):
            scaled = [convert(tile, unit) for tile in tiles]
            total = np.zeros(scaled[-1].stop)
            weights = blend_weights(scaled, from_zero=causal)
            for tile, weight in zip(scaled, weights, strict=True):
                assert weight.min() >= 0
                total[tile.span] += weight
            assert np.allclose(total, 1, atol=1e-6)


def test_tiles_of_the_specification():
    assert split(6, size=3, overlap=1) == [Tile(0, 3, 0, 1), Tile(2, 5, 1, 1), Tile(4, 6, 1, 0)]
    causal = split(6, size=3, overlap=1, causal=True)
    assert causal == [Tile(0, 3, 0, 1), Tile(1, 5, 2, 1), Tile(3, 6, 2, 0)]
    assert [to_frames(tile, 8) for tile in causal] == [
        Tile(0, 17, 0, 8),
        Tile(8, 33, 9, 8),
        Tile(24, 41, 9, 0),
    ]
    assert split(5, size=5, overlap=2) == split(5, size=0, overlap=0) == [Tile(0, 5, 0, 0)]


def test_ramps():
    first, second = blend_weights([Tile(0, 3, 0, 2), Tile(1, 4, 2, 0)])
    assert np.allclose(first, [1, 2 / 3, 1 / 3])
    assert np.allclose(second, [1 / 3, 2 / 3, 1])
    first, second = blend_weights([Tile(0, 3, 0, 1), Tile(1, 4, 2, 0)], from_zero=True)
    assert np.allclose(first, [1, 1, 1 / 2])
    assert np.allclose(second, [0, 1 / 2, 1])


def small_tiling(frames: TileSize, height: TileSize, width: TileSize) -> Tiling:
    """From sizes in latents of the small VAE."""
    return Tiling(
        TileSize(2 * frames.size, 2 * frames.overlap),
        TileSize(8 * height.size, 8 * height.overlap),
        TileSize(8 * width.size, 8 * width.overlap),
    )


@given(axes(), axes(), axes(), st.integers(1, 2))
@settings(deadline=None, max_examples=12)
def test_a_local_decoder_is_the_same_in_tiles(frames, height, width, batch):
    decoder = VideoDecoder(config())
    make_local(decoder, tap=1)
    randomise_statistics(decoder)
    tiling = small_tiling(*(TileSize(*axis[1:]) for axis in (frames, height, width)))
    latents = mx.random.normal((batch, 8, frames[0], height[0], width[0]))
    chunks = list(tiled_decode(decoder, latents, tiling))
    assert len(chunks) == len(split(frames[0], size=frames[1], overlap=frames[2]))
    assert mx.allclose(mx.concatenate(chunks, axis=2), decoder(latents), atol=1e-4)


@given(num_frames=st.integers(1, 60), rows=st.integers(1, 20), columns=st.integers(1, 3))
@settings(deadline=None, max_examples=8)
def test_a_local_encoder_is_the_same_in_tiles(num_frames, rows, columns):
    encoder = VideoEncoder(config())
    make_local(encoder, tap=2)
    randomise_statistics(encoder)
    video = mx.random.uniform(-1, 1, (1, 3, num_frames, 8 * rows, 8 * columns))
    tiling = small_tiling(TileSize(12, 8), TileSize(10, 8), TileSize())
    assert mx.allclose(tiled_encode(encoder, video, tiling), encoder(video), atol=1e-4)


def test_tiles_change_nothing_away_from_seams():
    # Three convolutions see less than 3 latents far; the tiles are [0, 8) and [6, 14).
    decoder = VideoDecoder(config())
    latents = mx.random.normal((1, 8, 14, 2, 14))
    wanted = decoder(latents)
    along_width = Tiling(width=TileSize(64, 16))
    (tiled,) = tiled_decode(decoder, latents, along_width)
    unlike = mx.abs(tiled - wanted).max(axis=(0, 1, 2, 3))
    assert unlike[: 8 * 5].max() < 1e-5
    assert unlike[8 * 9 :].max() < 1e-5
    assert unlike[8 * 5 : 8 * 9].max() > 1e-3

    along_time = Tiling(frames=TileSize(16, 4))
    tiled = mx.concatenate(list(tiled_decode(decoder, latents, along_time)), axis=2)
    unlike = mx.abs(tiled - wanted).max(axis=(0, 1, 3, 4))
    assert unlike[: 2 * 5 - 1].max() < 1e-5
    assert unlike[2 * 9 :].max() < 1e-5
    assert unlike[2 * 5 : 2 * 9].max() > 1e-3


@pytest.mark.parametrize("tiling", [UNTILED, Tiling(TileSize(8, 4), TileSize(16, 8), TileSize())])
def test_streamed_frames_are_the_decoded_ones(tiling):
    decoder = VideoDecoder(config())
    latents = 5 * mx.random.normal((1, 8, 7, 3, 2))  # large, so that pixels leave [-1, 1]
    chunks = list(stream_frames(decoder, latents, tiling))
    assert len(chunks) == (1 if tiling is UNTILED else 3)
    frames = mx.concatenate(chunks)
    video = mx.concatenate(list(tiled_decode(decoder, latents, tiling)), axis=2)
    assert frames.shape == (13, 24, 16, 3)
    assert mx.allclose(frames, mx.clip(video[0].transpose(1, 2, 3, 0) / 2 + 0.5, 0, 1), atol=1e-6)
    if tiling is UNTILED:
        assert mx.array_equal(video, decoder(latents))


def test_streaming_takes_the_memory_of_a_group():
    decoder = VideoDecoder(config())
    mx.eval(decoder.parameters())

    def peak(num_latents: int) -> int:
        latents = mx.random.normal((1, 8, num_latents, 16, 16))
        mx.eval(latents)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        num_frames = 0
        for frames in stream_frames(decoder, latents, Tiling(frames=TileSize(12, 4))):
            num_frames += len(frames)
            del frames
        assert num_frames == 2 * num_latents - 1
        return mx.get_peak_memory() - before

    short = peak(14)
    assert peak(70) < 1.1 * short


def test_clips_are_streamed_one_by_one():
    frames = stream_frames(VideoDecoder(config()), mx.zeros((2, 8, 1, 1, 1)))
    with pytest.raises(ValueError, match="one clip at a time, got 2"):
        next(frames)


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (
            Tiling(width=TileSize(60, 8)),
            "tiling.width: size and overlap must be multiples of 8, got 60",
        ),
        (Tiling(frames=TileSize(8, 3)), "tiling.frames: size and overlap must be multiples of 2"),
        (Tiling(height=TileSize(16, 16)), "tiling.height: the overlap must be less than the size"),
    ],
)
def test_tiles_that_do_not_fit(tiling, message):
    with pytest.raises(UserError, match=message):
        next(tiled_decode(VideoDecoder(config()), mx.zeros((1, 8, 9, 9, 9)), tiling))


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (Tiling(frames=TileSize(32, 8)), "tiling.frames: tiles must overlap by 16 at least"),
        (Tiling(height=TileSize(96, 32)), "tiling.height: tiles must overlap by 64 at least"),
        (Tiling(width=TileSize(96, 32)), "tiling.width: tiles must overlap by 64 at least"),
    ],
)
def test_overlaps_too_small_to_encode(tiling, message):
    with pytest.raises(UserError, match=message):
        tiled_encode(VideoEncoder(config()), mx.zeros((1, 3, 1, 8, 8)), tiling)


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [((16, 16), 768, 768), ((32, 48), 512, 768), ((2, 48), 96, 768), ((48, 40), 768, 640)],
)
def test_auto_tiling(size, height, width):
    tiling = auto_tiling(*size, scale=RELEASED)
    assert (tiling.height, tiling.width) == (TileSize(height, 64), TileSize(width, 64))
    assert tiling.frames == DEFAULT_TILING.frames == TileSize(80, 24)
