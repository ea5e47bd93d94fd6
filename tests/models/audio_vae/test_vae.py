"""Encoder and decoder together."""

import math

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, encode_waveform
from ltx_models.errors import UserError
from tests.models.audio_vae.sizes import AUDIO_VAE

mx.random.seed(0)
ENCODER, DECODER = AudioEncoder(AUDIO_VAE), AudioDecoder(AUDIO_VAE)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 2), num_frames=st.integers(1, 40))
def test_shapes(batch, num_frames):
    latents = ENCODER(mx.zeros((batch, 2, num_frames, 64)))
    num_latents = math.ceil(num_frames / 4)
    assert latents.shape == (batch, 2, num_latents, 16)
    assert DECODER(latents).shape == (batch, 2, 4 * num_latents - 3, 64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 24))
def test_latents_do_not_see_later_frames(changed):
    mel = mx.random.normal((1, 2, 25, 64), key=mx.random.key(1))
    later = mx.arange(25)[:, None] >= changed
    before, after = ENCODER(mel), ENCODER(mx.where(later, 3.0, mel))
    first = math.ceil(changed / 4)  # latent i ends with mel frame 4 i
    assert mx.array_equal(before[:, :, :first], after[:, :, :first])
    assert mx.all(mx.any(before[:, :, first:] != after[:, :, first:], axis=(0, 1, 3)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 6))
def test_mel_frames_do_not_see_later_latents(changed):
    latents = mx.random.normal((1, 2, 7, 16), key=mx.random.key(2))
    later = mx.arange(7)[:, None] >= changed
    before, after = DECODER(latents), DECODER(mx.where(later, 3.0, latents))
    first = max(4 * changed - 3, 0)  # the first mel frame of that latent
    assert mx.array_equal(before[:, :, :first], after[:, :, :first])
    assert mx.all(mx.any(before[:, :, first:] != after[:, :, first:], axis=(0, 1, 3)))


def test_statistics_act_on_channel_and_mel_bin():
    encoder, decoder = AudioEncoder(AUDIO_VAE), AudioDecoder(AUDIO_VAE)
    mel = mx.random.normal((1, 2, 9, 64), key=mx.random.key(3))
    plain = encoder(mel)
    mean = mx.arange(32, dtype=mx.float32)
    std = 1 + mean
    for network in (encoder, decoder):
        network.per_channel_statistics["mean-of-means"] = mean
        network.per_channel_statistics["std-of-means"] = std
    normalised = encoder(mel)
    # Element 18 of the 32 is channel 1, mel bin 2.
    want = (plain[0, 1, :, 2] - 18) / 19
    assert mx.allclose(normalised[0, 1, :, 2], want, atol=1e-6)

    unit = AudioDecoder(AUDIO_VAE)
    unit.update(decoder.parameters())
    unit.per_channel_statistics["mean-of-means"] = mx.zeros(32)
    unit.per_channel_statistics["std-of-means"] = mx.ones(32)
    scaled = normalised * std.reshape(2, 1, 16) + mean.reshape(2, 1, 16)
    assert mx.allclose(decoder(normalised), unit(scaled), atol=1e-4)


def test_dtype_is_that_of_the_weights():
    encoder = AudioEncoder(AUDIO_VAE)
    encoder.set_dtype(mx.bfloat16)
    assert encoder(mx.zeros((1, 2, 5, 64))).dtype == mx.bfloat16
    assert ENCODER(mx.zeros((1, 2, 5, 64), dtype=mx.bfloat16)).dtype == mx.float32


@pytest.mark.parametrize("channels", [1, 2])
def test_encode_waveform(channels):
    sound = mx.random.normal((2, channels, 4410), key=mx.random.key(4))
    latents = encode_waveform(ENCODER, sound, sampling_rate=44100)
    assert latents.shape == (2, 2, 3, 16)  # 1600 samples, 11 mel frames


def test_encode_waveform_too_short():
    with pytest.raises(UserError, match="a sound of 500 samples at 16000 Hz"):
        encode_waveform(ENCODER, mx.zeros((1, 2, 1500)), sampling_rate=48000)
