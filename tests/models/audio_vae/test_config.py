import json

import pytest

from ltx_models.audio_vae.config import AudioVAEConfig, ExtendedVocoderConfig, HiFiGANConfig
from ltx_models.config import ConfigError
from ltx_models.released import LTX_2, LTX_2_3
from tests.models.audio_vae.sizes import audio_vae, extended, hifigan


def test_released_audio_vae():
    config = AudioVAEConfig.read(LTX_2["audio_vae"])
    assert config.ddconfig.channels == [128, 256, 512]
    assert config.latent_mel_bins == 16
    assert config.scale == (16000, 160, 4)
    assert config.scale.latents_per_second == 25


def test_released_vocoders():
    assert HiFiGANConfig.read(LTX_2["vocoder"]).channels == [1024, 512, 256, 128, 64, 32]
    config = ExtendedVocoderConfig.read(LTX_2_3["vocoder"])
    assert config.vocoder.channels == [1536, 768, 384, 192, 96, 48, 24]
    assert not config.vocoder.use_tanh_at_final


def test_json_round_trip():
    for name, cls in (("audio_vae", AudioVAEConfig), ("vocoder", ExtendedVocoderConfig)):
        assert cls.read(json.loads(json.dumps(LTX_2_3[name]))) == cls.read(LTX_2_3[name])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("norm_type", "group", "ddconfig.norm_type: 'group', but only 'pixel' is computed here"),
        ("attn_resolutions", [32], "ddconfig.attn_resolutions: [32], but only [] is"),
        ("causality_axis", "width", "ddconfig.causality_axis: 'width', but only 'height' is"),
        ("double_z", False, "ddconfig.double_z: False, but only True is computed"),
        ("downsample_time", True, "ddconfig.downsample_time: True, but only False is"),
        ("mid_block_add_attention", True, "ddconfig.mid_block_add_attention: True"),
        ("ch_mult", [1, 2], "ddconfig.ch_mult: List should have at least 3 items"),
        ("in_channels", 1, "ddconfig.in_channels: Input should be 2, got 1"),
        ("mel_bins", 66, "ddconfig.mel_bins: Input should be a multiple of 4, got 66"),
        ("mel_bins", 32, "preprocessing.mel.n_mel_channels is 64, but 32 is what the other"),
        ("z_chanels", 8, "ddconfig.z_chanels: unknown key"),
    ],
)
def test_wrong_network(key, value, message):
    with pytest.raises(ConfigError) as error:
        AudioVAEConfig.read(audio_vae(**{key: value}), at="config.audio_vae")
    text = str(error.value)
    assert message in text
    assert text.startswith("config.audio_vae")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("audio", "stereo", False, "audio.stereo: False, but only True"),
        ("audio", "sampling_rate", 44100, "audio.sampling_rate is 44100, but 16000 is what"),
        ("stft", "causal", False, "stft.causal: False, but only True"),
        ("stft", "win_length", 800, "stft.win_length is 800, but 1024 is what the other keys"),
        ("stft", "window", "hamming", "stft.window: unknown key"),
        ("mel", "mel_fmax", -1, "mel.mel_fmax: Input should be greater than 0"),
        ("mel", "mel_fmax", 6000, "mel.mel_fmax is 6000.0, but 8000.0 is what the other keys"),
    ],
)
def test_wrong_preprocessing(section, key, value, message):
    data = audio_vae()
    data["preprocessing"][section][key] = value
    with pytest.raises(ConfigError) as error:
        AudioVAEConfig.read(data)
    assert f"preprocessing.{message}" in str(error.value)


def test_nested_key_can_be_allowed():
    data = audio_vae(brand_new=1)
    assert AudioVAEConfig.read(data, allow_unknown=["brand_new"]) == AudioVAEConfig.read(
        audio_vae()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resblock": "2"}, "config.resblock: '2', but only '1' is computed here"),
        ({"stereo": False}, "config.stereo: False, but only True"),
        ({"upsample_rates": [5]}, "config: 1 upsample_rates, 2 upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [10, 4]}, "upsample_kernel_sizes: 10 does not fit the rate 5"),
        ({"upsample_kernel_sizes": [3, 4]}, "upsample_kernel_sizes: 3 does not fit the rate 5"),
        ({"resblock_kernel_sizes": [3, 4]}, "resblock_kernel_sizes: 4 is even"),
        ({"resblock_kernel_sizes": [3]}, "1 resblock_kernel_sizes, 2 resblock_dilation_sizes"),
        ({"upsample_initial_channel": 6}, "upsample_initial_channel: cannot be halved 2 times"),
        ({"activation": "snake"}, "config.activation: unknown key"),
    ],
)
def test_wrong_hifigan(changes, message):
    with pytest.raises(ConfigError) as error:
        HiFiGANConfig.read(hifigan(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "snake"}, "bwe.activation: 'snake', but only 'snakebeta' is"),
        ({"resblock": "AMP2"}, "bwe.resblock: 'AMP2', but only 'AMP1' is"),
        ({"apply_final_activation": True}, "bwe.apply_final_activation: True, but only False"),
        ({"resblock_kernel_sizes": [3, 4]}, "bwe: resblock_kernel_sizes: 4 is even"),
        (
            {"output_sampling_rate": 3000},
            "bwe: upsample_rates: 10 samples for each 5 do not turn 1000 Hz into 3000 Hz",
        ),
        ({"win_size": 12}, "bwe: win_size is 12, but only n_fft, 16, is computed"),
        ({"n_fft": 4, "win_size": 4}, "bwe: hop_length is 5, longer than n_fft, 4"),
    ],
)
def test_wrong_extension(changes, message):
    with pytest.raises(ConfigError) as error:
        ExtendedVocoderConfig.read(extended(**changes))
    assert f"config.{message}" in str(error.value)
