"""Sound: waveform to log-mel spectrum to latents, and back; ``load_*`` build the networks."""

import mlx.core as mx

from ltx_models.audio_vae.bandwidth import ExtendedVocoder
from ltx_models.audio_vae.config import AudioVAEConfig, ExtendedVocoderConfig, HiFiGANConfig
from ltx_models.audio_vae.decoder import AudioDecoder
from ltx_models.audio_vae.encoder import AudioEncoder, encode_waveform
from ltx_models.audio_vae.mel import waveform_to_mel
from ltx_models.audio_vae.vocoder import HiFiGAN
from ltx_models.checkpoint import Checkpoint

__all__ = [
    "AudioDecoder",
    "AudioEncoder",
    "AudioVAEConfig",
    "ExtendedVocoder",
    "HiFiGAN",
    "Vocoder",
    "encode_waveform",
    "load_audio_decoder",
    "load_audio_encoder",
    "load_vocoder",
    "waveform_to_mel",
]

Vocoder = HiFiGAN | ExtendedVocoder

# The inverse of mel_stft's Fourier basis: the released file has it, and nothing goes that way.
IDLE_BASIS = "vocoder.mel_stft.stft_fn.inverse_basis"


def load_audio_encoder(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> AudioEncoder:
    """The encoder with its statistics.

    Raises ConfigError or WeightsError for a checkpoint that does not hold this network.
    """
    encoder = AudioEncoder(checkpoint.section("audio_vae", AudioVAEConfig))
    return checkpoint.fill_coder(encoder, "audio_vae.encoder.", dtype=dtype)


def load_audio_decoder(checkpoint: Checkpoint, *, dtype: mx.Dtype) -> AudioDecoder:
    """The decoder with its statistics.

    Raises ConfigError or WeightsError for a checkpoint that does not hold this network.
    """
    decoder = AudioDecoder(checkpoint.section("audio_vae", AudioVAEConfig))
    return checkpoint.fill_coder(decoder, "audio_vae.decoder.", dtype=dtype)


def load_vocoder(checkpoint: Checkpoint) -> Vocoder:
    """LTX-2's vocoder, or LTX-2.3's where the configuration has a ``bwe``; always in float32.

    Raises ConfigError or WeightsError for a checkpoint that does not hold this network.
    """
    if "bwe" in checkpoint.config.get("vocoder", {}):
        vocoder = ExtendedVocoder(checkpoint.section("vocoder", ExtendedVocoderConfig))
    else:
        vocoder = HiFiGAN(checkpoint.section("vocoder", HiFiGANConfig))
    return checkpoint.fill(vocoder, {"": "vocoder."}, idle=[IDLE_BASIS], dtype=mx.float32)
