import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae.mel import log_mel, to_stereo, waveform_to_mel
from ltx_models.errors import UserError
from tests.models.audio_vae.sizes import AUDIO_VAE

RATE = 16000


def tone(hertz: float, seconds: float = 0.2) -> mx.array:
    times = mx.arange(int(seconds * RATE)) / RATE
    return mx.sin(2 * math.pi * hertz * times)[None, None]


def test_silence():
    mel = log_mel(mx.zeros((1, 2, 2000)), config=AUDIO_VAE)
    assert mel.shape == (1, 2, 13, 64)
    assert mx.allclose(mel, mx.array(math.log(1e-5)))


@settings(max_examples=20, deadline=None)
@given(st.integers(513, 4000))
def test_frames(num_samples):
    mel = log_mel(mx.ones((2, num_samples)), config=AUDIO_VAE)
    assert mel.shape == (2, 1 + num_samples // 160, 64)
    assert mx.isfinite(mel).all()


def test_pitch_moves_the_loudest_bin():
    bins = [
        int(mx.argmax(log_mel(tone(hertz), config=AUDIO_VAE)[0, 0, 10]))
        for hertz in (200, 1000, 4000, 7500)
    ]
    assert bins == sorted(set(bins))
    assert bins[0] < 8
    assert bins[-1] >= 60


def test_twice_as_loud():
    quiet, loud = (log_mel(gain * tone(440), config=AUDIO_VAE) for gain in (0.25, 0.5))
    heard = quiet > -5
    assert mx.allclose(mx.where(heard, loud - quiet, math.log(2)), mx.array(math.log(2)), atol=1e-4)


def test_mono_is_heard_on_both_sides():
    mel = waveform_to_mel(tone(440), sampling_rate=RATE, config=AUDIO_VAE)
    assert mel.shape == (1, 2, 21, 64)
    assert mx.allclose(mel[:, 0], mel[:, 1], atol=1e-5)


def test_stereo_stays_as_it_is():
    both = mx.random.normal((1, 2, 9))
    assert to_stereo(both) is both


def test_other_rates_give_the_same_spectrum():
    times = np.arange(44100 // 5) / 44100
    fine = mx.array(np.sin(2 * np.pi * 440 * times).astype(np.float32))[None, None]
    got = waveform_to_mel(fine, sampling_rate=44100, config=AUDIO_VAE)
    want = waveform_to_mel(tone(440), sampling_rate=RATE, config=AUDIO_VAE)
    loud = want[:, :, 4:-4] > -2
    assert mx.abs(mx.where(loud, (got - want)[:, :, 4:-4], 0)).max() < 0.01


def test_low_precision_input_is_computed_in_float32():
    mel = waveform_to_mel(tone(440).astype(mx.bfloat16), sampling_rate=RATE, config=AUDIO_VAE)
    assert mel.dtype == mx.float32


def test_too_short():
    with pytest.raises(UserError, match="a sound of 512 samples at 16000 Hz; at least 513 can"):
        log_mel(mx.zeros((1, 512)), config=AUDIO_VAE)


def test_too_many_channels():
    with pytest.raises(UserError, match="a sound of 6 channels; mono and stereo can be encoded"):
        to_stereo(mx.zeros((1, 6, 2000)))
