"""Decoding in turn, and the tiles of a picture beside each other: the frames of the whole clip."""

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae import VideoDecoder
from ltx_models.video_vae.frames import decode_frames, named_tiling
from ltx_models.video_vae.reach import ReceptiveField, receptive_field, sees_all
from ltx_models.video_vae.stream import decode_in_turn
from ltx_models.video_vae.tiling import (
    UNTILED,
    TileSize,
    Tiling,
    auto_tiling,
    blend_weights,
    split,
    stream_frames,
    tiled_decode,
    to_frames,
)
from tests.models.video_vae.ladders import RELEASED, config, narrow, randomise_statistics

NORMED = {"decoder_blocks": [["res_x_y", {"multiplier": 2}], ["compress_all", {}]]}


def decoder_of(base=None, **changes) -> VideoDecoder:
    decoder = VideoDecoder(config(**changes) if base is None else narrow(base, **changes))
    randomise_statistics(decoder)
    return decoder


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_frames_in_turn_are_those_of_the_whole(version, causal, padding):
    decoder = decoder_of(RELEASED[version], causal_decoder=causal, spatial_padding_mode=padding)
    for num_latents, at_once in ((1, 4), (2, 1), (6, 4), (5, 3)):
        latents = mx.random.normal((2, 4, num_latents, 2, 3))
        parts = list(decode_in_turn(decoder, latents, at_once=at_once))
        assert max(part.shape[2] for part in parts) <= at_once
        assert mx.allclose(mx.concatenate(parts, axis=2), decoder(latents), rtol=0, atol=1e-5)


def exact(version: str) -> tuple[VideoDecoder, ReceptiveField]:
    """A decoder with fewer convolutions than one of any release, and what it looks at."""
    decoder = decoder_of()
    field = receptive_field(decoder.config)
    assert field is not None
    return decoder, field


def influences(decoder: VideoDecoder, latents: mx.array, axis: int, changed: int) -> list[int]:
    """The latents, along an axis, whose frames or pixels one changed latent alters."""
    other = mx.array(latents)
    place = [slice(None)] * 5
    place[axis] = changed
    other[tuple(place)] += 1
    unlike = mx.abs(decoder(other) - decoder(latents)).max(axis=[i for i in range(5) if i != axis])
    unit = decoder.config.scale.time if axis == 2 else decoder.config.scale.space
    return sorted(
        {
            (i + unit - 1) // unit if axis == 2 else i // unit
            for i, value in enumerate(unlike.tolist())
            if value > 0
        }
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("axis", "shape"), [(2, (27, 1, 1)), (4, (1, 1, 19))])
def test_the_receptive_field_is_what_bears_on_a_latent_s_frames(causal, axis, shape):
    decoder = decoder_of(RELEASED["LTX-2.3"], causal_decoder=causal, spatial_padding_mode="zeros")
    field = receptive_field(decoder.config)
    assert field is not None
    reach = field.time if axis == 2 else field.space
    found = influences(decoder, mx.random.normal((1, 4, *shape)), axis, 9)
    before, after = 9 - found[0], found[-1] - 9
    # What a latent bears on before it looks at what comes after. Padding of time may add one.
    assert (before, after) in {(reach.after, reach.before), (reach.after, reach.before - 1)}


def test_released_decoders_look_far():
    fields = [
        receptive_field(config(base))
        for base in ({**RELEASED["LTX-2"], "timestep_conditioning": False}, RELEASED["LTX-2.3"])
    ]
    assert [tuple(map(tuple, field)) for field in fields if field] == [
        ((23, 22), (22, 22)),
        ((15, 14), (16, 16)),
    ]


@given(length=st.integers(1, 40), size=st.integers(10, 16), causal=st.booleans())
@settings(deadline=None)
def test_weights_without_strange_places_sum_to_one(length, size, causal):
    tiles = split(length, size=size, overlap=8, causal=causal)
    if causal:
        tiles = [to_frames(tile, 2) for tile in tiles]
    strange = (7, 8) if causal else (4, 4)
    weights = blend_weights(tiles, from_zero=causal, strange=strange)
    total = mx.zeros(tiles[-1].stop)
    for tile, weight in zip(tiles, weights, strict=True):
        assert weight.min() >= 0
        assert not tile.left or not weight[: strange[0]].any()
        assert not tile.right or not weight[len(weight) - strange[1] :].any()
        total[tile.span] += mx.array(weight)
    assert mx.allclose(total, mx.ones_like(total), atol=1e-6)


@given(
    frames=st.integers(9, 30),
    rows=st.integers(1, 14),
    columns=st.integers(9, 14),
    more=st.integers(0, 2),
)
@settings(deadline=None, max_examples=8)
def test_with_overlap_enough_tiles_give_what_the_decoder_gives(frames, rows, columns, more):
    decoder, field = exact("")
    time, space = decoder.config.scale
    overlaps = (sum(field.time) + more, sum(field.space) + more, sum(field.space) + more)
    tiling = Tiling(
        *(
            TileSize((o + 3) * unit, o * unit)
            for o, unit in zip(overlaps, (time, space, space), strict=True)
        )
    )
    latents = mx.random.normal((1, 8, frames, rows, columns))
    tiled = mx.concatenate(list(tiled_decode(decoder, latents, tiling)), axis=2)
    assert mx.allclose(tiled, decoder(latents), rtol=0, atol=1e-4)


def joined(chunks) -> mx.array:
    return mx.concatenate(list(chunks))


@pytest.mark.parametrize("tiling", [UNTILED, Tiling(height=TileSize(24, 8), width=TileSize(16, 8))])
def test_a_clip_s_frames_are_those_of_the_tiled_decode(tiling):
    """Also where tiles are blended: each tile is exact, and the weights are the same."""
    decoder = decoder_of()
    latents = 3 * mx.random.normal((1, 8, 9, 4, 5))
    frames = joined(decode_frames(decoder, latents, tiling))
    assert frames.shape == (17, 32, 40, 3)
    assert mx.allclose(frames, joined(stream_frames(decoder, latents, tiling)), atol=1e-5)
    if tiling is UNTILED:
        at_once = joined(decode_frames(decoder, latents, None))
        assert mx.allclose(frames, at_once, atol=1e-5)


def test_a_decoder_that_norms_over_all_frames_is_blended():
    decoder = decoder_of(decoder_blocks=[*NORMED["decoder_blocks"], ["compress_space", {}]])
    assert sees_all(decoder.config)
    assert receptive_field(decoder.config) is None
    latents = mx.random.normal((1, 8, 3, 2, 2))
    frames = joined(decode_frames(decoder, latents, UNTILED))
    assert mx.allclose(frames, joined(stream_frames(decoder, latents, UNTILED)), atol=1e-6)
    with pytest.raises(ValueError, match="has a norm over all frames"):
        next(decode_in_turn(decoder, latents))


def peak(decoder: VideoDecoder, num_latents: int, tiling: Tiling) -> int:
    latents = mx.random.normal((1, 4, num_latents, 4, 4))
    mx.eval(latents)
    mx.clear_cache()
    mx.reset_peak_memory()
    before, num_frames = mx.get_active_memory(), 0
    for frames in decode_frames(decoder, latents, tiling):
        num_frames += len(frames)
        del frames
    assert num_frames == 8 * num_latents - 7
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize(
    "tiling", [UNTILED, pytest.param(Tiling(width=TileSize(96, 32)), marks=pytest.mark.slow)]
)
def test_257_frames_take_the_memory_of_65(version, tiling):
    decoder = decoder_of(RELEASED[version])
    mx.eval(decoder.parameters())
    assert peak(decoder, 33, tiling) < 1.1 * peak(decoder, 9, tiling)


def test_tilings_by_name():
    scale = VideoScale(time=8, space=32)
    assert named_tiling("none", 16, 24, scale=scale) is None
    auto = named_tiling("auto", 48, 40, scale=scale)
    assert auto is not None
    wanted = auto_tiling(48, 40, scale=scale)
    assert (auto.height, auto.width, auto.frames) == (wanted.height, wanted.width, TileSize())
    for name, size in (("conservative", 768), ("aggressive", 256)):
        tiling = named_tiling(name, 16, 24, scale=scale)
        assert tiling == Tiling(height=TileSize(size, 64), width=TileSize(size, 64))
