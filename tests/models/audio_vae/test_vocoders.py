import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map

from ltx_models.audio_vae import ExtendedVocoder, HiFiGAN
from ltx_models.audio_vae.resample import resample
from tests.models.audio_vae.sizes import EXTENDED, HIFIGAN


def filled(vocoder):
    """With random weights, also where a new module has zeros."""
    mx.random.seed(0)
    vocoder.update(tree_map(lambda x: 0.3 * mx.random.normal(x.shape), vocoder.parameters()))
    return vocoder


HIFI, WIDE = filled(HiFiGAN(HIFIGAN)), filled(ExtendedVocoder(EXTENDED))


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 2), num_frames=st.integers(1, 9))
def test_shape_and_range(batch, num_frames):
    mel = mx.random.normal((batch, 2, num_frames, 64), key=mx.random.key(num_frames))
    for vocoder, samples in ((HIFI, 10), (WIDE, 20)):
        sound = vocoder(mel)
        assert sound.shape == (batch, 2, samples * num_frames)
        assert mx.abs(sound).max() <= 1
        assert mx.any(sound != 0)


def test_sampling_rates():
    assert HIFI.sampling_rate == 1000
    assert WIDE.sampling_rate == 2000


@pytest.mark.parametrize("vocoder", [HIFI, WIDE], ids=["hifigan", "extended"])
def test_float32_for_a_bfloat16_spectrum(vocoder):
    mel = mx.random.normal((1, 2, 3, 64), key=mx.random.key(1)).astype(mx.bfloat16)
    sound = vocoder(mel)
    assert sound.dtype == mx.float32
    assert mx.array_equal(sound, vocoder(mel.astype(mx.float32)))


@pytest.mark.parametrize("vocoder", [HIFI, WIDE], ids=["hifigan", "extended"])
def test_channels_of_the_spectrum_are_not_interchangeable(vocoder):
    mel = mx.random.normal((1, 2, 3, 64), key=mx.random.key(2))
    assert not mx.allclose(vocoder(mel), vocoder(mel[:, ::-1]))


@pytest.mark.parametrize("num_samples", [20, 23])
def test_a_silent_extension_leaves_the_resampled_sound(num_samples):
    vocoder = filled(ExtendedVocoder(EXTENDED))
    vocoder.bwe_generator.conv_post.weight *= 0
    low = 0.1 * mx.random.normal((1, 2, num_samples), key=mx.random.key(3))
    held = mx.pad(low, [(0, 0), (0, 0), (0, -num_samples % 5)])
    want = resample(held, source=1000, target=2000, edges="edge")[..., : 2 * num_samples]
    got = vocoder.extend(low)
    assert got.shape == (1, 2, 2 * num_samples)
    assert mx.array_equal(got, want)


def test_spectrum_of_the_extension_looks_back_only():
    stft = WIDE.mel_stft
    sound = mx.random.normal((1, 2, 30), key=mx.random.key(4))
    changed = mx.where(mx.arange(30) >= 15, 2.0, sound)
    before, after = stft(sound), stft(changed)
    assert before.shape == (1, 2, 6, 12)
    assert mx.array_equal(before[:, :, :3], after[:, :, :3])
    assert mx.any(before[:, :, 3] != after[:, :, 3])


def test_the_extension_may_exceed_the_range_and_the_sum_is_cut():
    loud = filled(ExtendedVocoder(EXTENDED))
    loud.bwe_generator.conv_post.weight *= 1000
    base = mx.random.normal((1, 2, 20), key=mx.random.key(5))
    assert mx.abs(loud.bwe_generator(loud.mel_stft(base))).max() > 1
    assert mx.abs(loud.extend(base)).max() == 1


@pytest.mark.parametrize(("tanh", "bound"), [(True, mx.tanh), (False, lambda x: mx.clip(x, -1, 1))])
def test_the_base_is_bounded_before_it_is_extended(tanh, bound):
    vocoder = filled(ExtendedVocoder(EXTENDED))
    vocoder.vocoder.conv_post.weight *= 100
    vocoder.bounded_by_tanh = tanh
    mel = mx.random.normal((1, 2, 4, 64), key=mx.random.key(6))
    base = vocoder.vocoder(mel)
    assert mx.abs(base).max() > 1
    assert mx.allclose(vocoder(mel), vocoder.extend(bound(base)))
