import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.video_vae import (
    VideoDecoder,
    VideoEncoder,
    load_video_decoder,
    load_video_encoder,
    load_video_statistics,
)
from tests.conftest import GOLDEN
from tests.models.video_vae.ladders import RELEASED, SMALL, config, narrow, randomise_statistics

TINY = GOLDEN / "ltx2.3-tiny.safetensors"


def count(module: nn.Module) -> int:
    names = tree_flatten(module.parameters())
    return sum(value.size for name, value in names if not name.startswith("per_channel_statistics"))


@pytest.mark.parametrize(
    ("version", "network", "wanted"),
    [
        ("LTX-2", VideoEncoder, 694_098_881),
        ("LTX-2", VideoDecoder, 528_380_720),
        ("LTX-2.3", VideoEncoder, 318_936_897),
        ("LTX-2.3", VideoDecoder, 407_169_072),
    ],
)
def test_parameters_of_the_released_sizes(version, network, wanted):
    before = mx.get_active_memory()
    assert count(network(config(RELEASED[version]))) == wanted
    assert mx.get_active_memory() - before < 2**16  # nothing is allocated until it is used


@given(
    version=st.sampled_from(list(RELEASED)),
    causal=st.booleans(),
    batch=st.integers(1, 2),
    latent=st.tuples(st.integers(1, 2), st.integers(2, 3), st.integers(2, 3)),
)
@settings(deadline=None, max_examples=8)
def test_decode_then_encode_restores_the_shape(version, causal, batch, latent):
    vae = narrow(RELEASED[version], causal_decoder=causal)
    latents = mx.random.normal((batch, 4, *latent))
    frames, height, width = latent
    video = VideoDecoder(vae)(latents)
    assert video.shape == (batch, 3, 8 * (frames - 1) + 1, 32 * height, 32 * width)
    assert VideoEncoder(vae)(video).shape == latents.shape


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize("causal", [True, False])
def test_only_a_causal_decoder_keeps_frames_before_a_change(version, causal):
    decoder = VideoDecoder(narrow(RELEASED[version], causal_decoder=causal))
    latents = mx.random.normal((1, 4, 3, 2, 2))
    changed = mx.concatenate([latents[:, :, :2], -latents[:, :, 2:]], axis=2)
    unlike = mx.abs(decoder(latents) - decoder(changed)).max(axis=(0, 1, 3, 4))
    assert (unlike[:9].max() == 0) == causal
    assert unlike[9:].min() > 0


@pytest.mark.parametrize("version", RELEASED)
def test_the_encoder_is_causal(version):
    encoder = VideoEncoder(narrow(RELEASED[version]))
    video = mx.random.uniform(-1, 1, (1, 3, 9, 32, 32))
    assert mx.allclose(encoder(video)[:, :, :1], encoder(video[:, :, :1]), atol=1e-5)


def test_surplus_frames_are_dropped_from_the_end():
    encoder = VideoEncoder(config())
    video = mx.random.uniform(-1, 1, (1, 3, 4, 8, 16))
    assert mx.array_equal(encoder(video), encoder(video[:, :, :3]))


@pytest.mark.parametrize("size", [(8, 12), (12, 8)])
def test_sizes_that_do_not_divide(size):
    message = f"must be multiples of 8 pixels to be encoded, got {size[0]} x {size[1]}"
    with pytest.raises(UserError, match=message):
        VideoEncoder(config())(mx.zeros((1, 3, 1, *size)))


def test_latents_are_normalised_means():
    vae = config()
    encoder, decoder = VideoEncoder(vae), VideoDecoder(vae)
    video = mx.random.uniform(-1, 1, (1, 3, 3, 8, 8))
    plain = encoder(video)
    randomise_statistics(encoder)
    statistics = encoder.per_channel_statistics
    assert mx.allclose(statistics.un_normalize(encoder(video), axis=1), plain, atol=1e-5)
    wanted = decoder(plain)
    decoder.per_channel_statistics = statistics
    assert mx.allclose(decoder(encoder(video)), wanted, atol=1e-4)


def test_old_blocks():
    vae = config(
        encoder_blocks=[["compress_space", 1], ["res_x_y", {"multiplier": 2}], ["compress_all", 1]],
        decoder_blocks=[
            ["compress_space", {}],
            ["res_x_y", {"multiplier": 2}],
            ["compress_all", {}],
        ],
    )
    encoder, decoder = VideoEncoder(vae), VideoDecoder(vae)
    names = {name for name, _ in tree_flatten(encoder.parameters())}
    assert {"down_blocks.0.conv.weight", "down_blocks.1.conv_shortcut.weight"} <= names
    assert decoder.conv_in.conv.weight.shape[0] == 2 * SMALL["decoder_base_channels"]
    video = decoder(mx.random.normal((1, 8, 3, 2, 4)))
    assert video.shape == (1, 3, 5, 16, 32)
    assert encoder(video).shape == (1, 8, 3, 2, 4)


def test_residual_is_read_of_compress_all_only():
    def blocks(residual: bool) -> list:
        return [["compress_space", {"residual": residual}], ["compress_all", {}]]

    plain, residual = (VideoDecoder(config(decoder_blocks=blocks(flag))) for flag in (False, True))
    residual.update(plain.parameters())
    latents = mx.random.normal((1, 8, 2, 2, 2))
    assert mx.array_equal(plain(latents), residual(latents))


def test_networks_compute_in_the_type_of_their_weights():
    checkpoint = open_checkpoint(TINY)
    encoder = load_video_encoder(checkpoint, dtype=mx.bfloat16)
    latents = encoder(mx.random.uniform(-1, 1, (1, 3, 1, 64, 64)))
    video = load_video_decoder(checkpoint, dtype=mx.bfloat16)(latents.astype(mx.float32))
    assert (latents.dtype, video.dtype) == (mx.bfloat16, mx.bfloat16)


def test_all_load_the_same_statistics():
    checkpoint = open_checkpoint(TINY)
    loaded = [
        load_video_statistics(checkpoint, dtype=mx.float32),
        load_video_encoder(checkpoint, dtype=mx.float32).per_channel_statistics,
        load_video_decoder(checkpoint, dtype=mx.float32).per_channel_statistics,
    ]
    means = [statistics["mean-of-means"] for statistics in loaded]
    assert mx.array_equal(means[0], means[1])
    assert mx.array_equal(means[0], means[2])
    assert mx.abs(means[0]).max() > 0
