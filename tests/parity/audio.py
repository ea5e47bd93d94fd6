"""Golden components of the sound networks."""

import mlx.core as mx

from ltx_models.audio_vae import (
    AudioVAEConfig,
    encode_waveform,
    load_audio_decoder,
    load_audio_encoder,
    load_vocoder,
    waveform_to_mel,
)
from tests.parity.case import Case


def audio_mel(case: Case) -> dict[str, mx.array]:
    config = case.checkpoint.section("audio_vae", AudioVAEConfig)
    rate = case.params["sample_rate"]
    return {"mel": waveform_to_mel(case.inputs["waveform"], sampling_rate=rate, config=config)}


def audio_encode(case: Case) -> dict[str, mx.array]:
    encoder = load_audio_encoder(case.checkpoint, dtype=mx.float32)
    if "mel" in case.inputs:
        return {"latent": encoder(case.inputs["mel"])}
    rate = case.params["sample_rate"]
    return {"latent": encode_waveform(encoder, case.inputs["waveform"], sampling_rate=rate)}


def audio_decode(case: Case) -> dict[str, mx.array]:
    decoder = load_audio_decoder(case.checkpoint, dtype=mx.float32)
    return {"mel": decoder(case.inputs["latent"])}


def vocoder(case: Case) -> dict[str, mx.array]:
    if "mel" in case.inputs:
        mel = case.inputs["mel"]
    else:
        mel = load_audio_decoder(case.checkpoint, dtype=mx.float32)(case.inputs["latent"])
    waveform = load_vocoder(case.checkpoint)(mel)
    return {"waveform": waveform[..., :: case.params["out_stride"]]}


COMPONENTS = {
    "audio_mel": audio_mel,
    "audio_encode": audio_encode,
    "audio_decode": audio_decode,
    "vocoder": vocoder,
}
