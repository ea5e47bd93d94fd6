import mlx.core as mx
import pytest
from mlx.utils import tree_map_with_path

from ltx_models.audio_vae import AudioDecoder, ExtendedVocoder, HiFiGAN
from ltx_models.audio_vae.config import AudioVAEConfig, ExtendedVocoderConfig, HiFiGANConfig
from ltx_models.audio_vae.parts import decoder_reach, mel_in_parts, sound_in_parts, vocoder_reach
from ltx_models.released import LTX_2, LTX_2_3
from tests.models.audio_vae.sizes import AUDIO_VAE, EXTENDED, HIFIGAN, extended


def filled(network):
    """With weights that keep signals at their size, so that no bound hides a difference."""
    mx.random.seed(0)

    def draw(path: str, value: mx.array) -> mx.array:
        if path.endswith("bias"):
            return 0.1 * mx.random.normal(value.shape)
        if "std-of-means" in path:
            return mx.ones(value.shape)
        size = value.size // value.shape[0] if value.ndim > 1 else 100
        return 0.5 * mx.random.normal(value.shape) / size**0.5

    network.update(tree_map_with_path(draw, network.parameters()))
    return network


CHANGES = {"hop_length": 20, "n_fft": 32, "win_size": 32}
CHANGES |= {"upsample_rates": [20, 2], "upsample_kernel_sizes": [22, 4]}
UNALIGNED = ExtendedVocoderConfig.read(extended(**CHANGES))
VOCODERS = {
    "hifigan": lambda: HiFiGAN(HIFIGAN),
    "extended": lambda: ExtendedVocoder(EXTENDED),
    "second spectrum of fewer frames": lambda: ExtendedVocoder(UNALIGNED),
}


@pytest.mark.parametrize("name", VOCODERS)
@pytest.mark.parametrize("size", [7, 30])
def test_sound_in_parts_is_the_sound_at_once(name, size):
    vocoder = filled(VOCODERS[name]())
    mel = mx.random.normal((1, 2, 151, 64), key=mx.random.key(1))
    whole = vocoder(mel)
    assert 1e-3 < mx.abs(whole).max() < 1
    assert mx.std(whole) > 1e-4
    got = sound_in_parts(vocoder, mel, size=size)
    assert got.shape == whole.shape
    assert mx.abs(got - whole).max() <= 1e-5 * mx.abs(whole).max()


@pytest.mark.parametrize("size", [7, 40])
def test_a_spectrum_in_parts_is_the_spectrum_at_once(size):
    decoder = filled(AudioDecoder(AUDIO_VAE))
    latents = mx.random.normal((2, 2, 61, 16), key=mx.random.key(1))
    whole = decoder(latents)
    got = mel_in_parts(decoder, latents, size=size)
    assert got.shape == whole.shape == (2, 2, 241, 64)
    assert mx.abs(got - whole).max() <= 1e-5 * mx.abs(whole).max()


def test_reach_of_the_released_networks():
    """In latents of 40 ms and mel frames of 10 ms: much less than the parts."""
    assert decoder_reach(AudioDecoder(AudioVAEConfig.read(LTX_2_3["audio_vae"]))) == 34
    assert vocoder_reach(HiFiGAN(HiFiGANConfig.read(LTX_2["vocoder"]))) == (21, 1)
    wide = ExtendedVocoder(ExtendedVocoderConfig.read(LTX_2_3["vocoder"]))
    assert vocoder_reach(wide) == (63, 1)
    assert vocoder_reach(ExtendedVocoder(UNALIGNED))[1] == 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sound", "spectrum"])
def test_long_sound_takes_the_memory_of_a_part(what):
    network = filled(HiFiGAN(HIFIGAN) if what == "sound" else AudioDecoder(AUDIO_VAE))
    mx.eval(network.parameters())

    def peak(length: int) -> int:
        x = mx.random.normal((1, 2, length, 64 if what == "sound" else 16))
        mx.eval(x)
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        made = (sound_in_parts if what == "sound" else mel_in_parts)(network, x, size=100)
        return mx.get_peak_memory() - before - 2 * made.nbytes  # the parts, and they joined

    assert peak(1000) < 1.1 * peak(300)
