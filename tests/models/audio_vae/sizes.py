"""Configurations of small sound networks, made from the released ones."""

from copy import deepcopy
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig, ExtendedVocoderConfig, HiFiGANConfig
from ltx_models.released import LTX_2, LTX_2_3

SMALL_GENERATOR = {
    "upsample_initial_channel": 16,
    "upsample_rates": [5, 2],
    "upsample_kernel_sizes": [11, 4],
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 2]],
}


def audio_vae(**ddconfig: Any) -> dict[str, Any]:
    data = deepcopy(dict(LTX_2["audio_vae"]))
    data["model"]["params"]["ddconfig"] |= {
        "ch": 8,
        "ch_mult": [1, 2, 1],
        "num_res_blocks": 1,
        "z_channels": 2,
        **ddconfig,
    }
    return data


def hifigan(**changes: Any) -> dict[str, Any]:
    return {**LTX_2["vocoder"], **SMALL_GENERATOR, "output_sampling_rate": 1000, **changes}


def extended(**changes: Any) -> dict[str, Any]:
    """A vocoder at 1000 Hz, 10 samples a frame, whose extension goes to 2000 Hz."""
    bwe = {
        "input_sampling_rate": 1000,
        "output_sampling_rate": 2000,
        "hop_length": 5,
        "n_fft": 16,
        "win_size": 16,
        "num_mels": 12,
    }
    return {
        "vocoder": {**LTX_2_3["vocoder"]["vocoder"], **SMALL_GENERATOR},
        "bwe": {**LTX_2_3["vocoder"]["bwe"], **SMALL_GENERATOR, **bwe, **changes},
    }


AUDIO_VAE = AudioVAEConfig.read(audio_vae())
HIFIGAN = HiFiGANConfig.read(hifigan())
EXTENDED = ExtendedVocoderConfig.read(extended())
