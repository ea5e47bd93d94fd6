import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae.snake import Activation1d, SnakeBeta, downsample, upsample

LENGTHS = st.integers(1, 70)


def lowpass() -> np.ndarray:
    """A windowed sinc with its cutoff at half the Nyquist frequency, of sum 1."""
    times = np.arange(12) - 5.5
    taps = np.sinc(times / 2) * np.kaiser(12, 4.66)
    return taps / taps.sum()


def activation(channels: int) -> Activation1d:
    layer = Activation1d(channels)
    layer.upsample.filter = mx.array(lowpass().astype(np.float32)).reshape(1, 1, 12)
    layer.downsample.lowpass.filter = layer.upsample.filter
    return layer


@settings(max_examples=20, deadline=None)
@given(LENGTHS)
def test_upsample(length):
    rng = np.random.default_rng(length)
    x, taps = rng.normal(size=(length, 2)), rng.normal(size=12)
    padded = np.pad(x, ((5, 5), (0, 0)), "edge")
    spread = np.zeros((2 * len(padded) - 1, 2))
    spread[::2] = padded
    want = np.stack([np.convolve(spread[:, c], 2 * taps) for c in range(2)], axis=-1)[15:]
    got = upsample(mx.array(x.astype(np.float32))[None], mx.array(taps.astype(np.float32)))
    assert got.shape == (1, 2 * length, 2)
    np.testing.assert_allclose(got[0], want[: 2 * length], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(LENGTHS)
def test_downsample(length):
    rng = np.random.default_rng(length)
    x, taps = rng.normal(size=(2 * length, 2)), rng.normal(size=12)
    padded = np.pad(x, ((5, 6), (0, 0)), "edge")
    want = np.stack([np.correlate(padded[:, c], taps) for c in range(2)], axis=-1)[::2]
    got = downsample(mx.array(x.astype(np.float32))[None], mx.array(taps.astype(np.float32)))
    np.testing.assert_allclose(got[0], want, atol=1e-4)


def test_samples_of_a_batch_do_not_mix():
    x = mx.random.normal((3, 37, 2), key=mx.random.key(0))
    layer = activation(2)
    assert mx.allclose(layer(x)[1], layer(x[1:2])[0], atol=1e-6)


def test_rates_cancel():
    times = mx.arange(200) / 200
    slow = mx.sin(2 * mx.pi * 5 * times)[None, :, None]
    taps = activation(1).upsample.filter
    assert mx.allclose(downsample(upsample(slow, taps), taps), slow, atol=0.01)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.7, -0.4)])
def test_snake(alpha, beta):
    layer = SnakeBeta(2)
    layer.alpha, layer.beta = mx.array([alpha, 0.0]), mx.array([beta, 0.0])
    x = np.linspace(-4, 4, 9)
    got = layer(mx.array(np.stack([x, x], axis=-1).astype(np.float32)))
    want = x + np.sin(x * np.exp(alpha)) ** 2 / (np.exp(beta) + 1e-9)
    np.testing.assert_allclose(got[:, 0], want, atol=1e-5)
    np.testing.assert_allclose(got[:, 1], x + np.sin(x) ** 2, atol=1e-5)


def test_constants_pass_as_by_snake_alone():
    layer = activation(1)
    x = mx.full((1, 40, 1), 0.8)
    assert mx.allclose(layer(x), layer.act(x), atol=1e-3)
