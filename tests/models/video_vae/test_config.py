import pytest

from ltx_models.config import ConfigError
from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae import VideoDecoder
from ltx_models.video_vae.config import Block
from tests.models.video_vae.ladders import RELEASED, SMALL, config


@pytest.mark.parametrize("base", RELEASED.values(), ids=RELEASED)
def test_released_scale(base):
    assert config(base).scale == VideoScale(time=8, space=32)


def test_scale_follows_the_blocks():
    assert config().scale == VideoScale(time=2, space=8)


@pytest.mark.parametrize(
    ("keys", "encoder", "decoder"),
    [
        ({}, "zeros", "reflect"),
        ({"spatial_padding_mode": "zeros"}, "zeros", "zeros"),
        ({"encoder_spatial_padding_mode": "reflect"}, "reflect", "reflect"),
        (
            {"encoder_spatial_padding_mode": "reflect", "spatial_padding_mode": "zeros"},
            "zeros",
            "zeros",
        ),
    ],
)
def test_padding(keys, encoder, decoder):
    without = {key: value for key, value in SMALL.items() if key != "spatial_padding_mode"}
    read = config(without, **keys)
    assert (read.encoder_padding, read.decoder_padding) == (encoder, decoder)


def test_short_forms_of_blocks():
    assert config(encoder_blocks=[["res_x", 3], *SMALL["encoder_blocks"]]).encoder_blocks[
        0
    ] == Block("res_x", num_layers=3)
    old = config(
        encoder_blocks=[["compress_space", 1], ["compress_all", 1]],
        decoder_blocks=[["compress_space", 1], ["compress_all", 1]],
    )
    assert [block.multiplier for block in old.encoder_blocks + old.decoder_blocks] == [1] * 4


def test_default_multipliers():
    read = config(decoder_blocks=[["compress_space", {}], ["compress_all", {}]])
    assert [block.multiplier for block in read.encoder_blocks] == [2, 1]
    assert [block.multiplier for block in read.decoder_blocks] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder_blocks": [["swirl", 1]]},
            "config.encoder_blocks: block 0: unknown block 'swirl'; known are res_x, ",
        ),
        (
            {"decoder_blocks": [["res_x", {"num_layers": 1, "multipler": 2}]]},
            "config.decoder_blocks: block 0: unknown key 'multipler' of res_x; "
            "known are num_layers, inject_noise",
        ),
        ({"encoder_blocks": [["res_x", {}]]}, "block 0: num_layers of res_x is None"),
        ({"encoder_blocks": [["attn_res_x", 1]]}, "block 0: attn_res_x (attention in the VAE)"),
        ({"encoder_blocks": ["res_x"]}, "block 0 is 'res_x', [name, parameters] is wanted"),
        ({"encoder_blocks": {}}, "a list of [name, parameters] is wanted"),
        (
            {"decoder_blocks": [["res_x", {"num_layers": 1, "inject_noise": True}]]},
            "inject_noise of res_x is on, which is not computed here",
        ),
        (
            {"decoder_blocks": [["compress_all", {"multiplier": 0}]]},
            "multiplier of compress_all is 0",
        ),
        (
            {"decoder_blocks": [["compress_all", {"residual": 1}]]},
            "residual of compress_all is 1, not true or false",
        ),
        (
            {"decoder_blocks": [["compress_all", {}]]},
            "config: the encoder shrinks (time, space) by (2, 8), the decoder grows them by (2, 4)",
        ),
        ({"spatial_padding_mode": "wrap"}, "config.spatial_padding_mode: Input should be 'zeros'"),
        ({"latent_log_var": "none"}, "config.latent_log_var: 'none', but only 'uniform'"),
        ({"patch_sise": 4}, "config.patch_sise: unknown key; did you mean 'patch_size'?"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ConfigError) as error:
        config(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize("said", [{}, {"timestep_conditioning": True}])
def test_a_decoder_with_a_timestep_is_refused(said):
    without = {key: value for key, value in SMALL.items() if key != "timestep_conditioning"}
    with pytest.raises(
        ConfigError, match=r"^config.vae.timestep_conditioning is true .*computed here$"
    ):
        VideoDecoder(config(without, **said))
