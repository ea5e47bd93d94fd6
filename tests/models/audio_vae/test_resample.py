from math import ceil, cos, pi, sin

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae.resample import resample


def by_the_formula(x: np.ndarray, source: int, target: int, edges: str) -> np.ndarray:
    """One sum for every output, over all input samples within the window."""
    cutoff = 0.99 * min(1, target / source)
    found = []
    for n in range(ceil(len(x) * target / source)):
        total = 0.0
        position = n * source / target
        reach = ceil(6 / cutoff)
        for m in range(int(position) - reach, int(position) + reach + 2):
            crossings = (m - position) * cutoff
            if abs(crossings) >= 6 or (edges == "constant" and not 0 <= m < len(x)):
                continue
            angle = pi * crossings
            weight = (sin(angle) / angle if angle else 1) * cos(angle / 12) ** 2 * cutoff
            total += weight * x[min(max(m, 0), len(x) - 1)]
        found.append(total)
    return np.array(found)


@settings(max_examples=40, deadline=None)
@given(
    source=st.integers(1, 40),
    target=st.integers(1, 40),
    length=st.integers(1, 60),
    edges=st.sampled_from(["constant", "edge"]),
)
def test_equals_the_formula(source, target, length, edges):
    x = np.random.default_rng(length).normal(size=length)
    got = resample(mx.array(x.astype(np.float32)), source=source, target=target, edges=edges)
    want = x if source == target else by_the_formula(x, source, target, edges)
    np.testing.assert_allclose(np.array(got), want, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(source=st.integers(800, 4000), target=st.integers(800, 4000), share=st.floats(0.01, 0.6))
def test_keeps_a_sine(source, target, share):
    hertz = share * min(source, target) / 2
    at = lambda rate: np.sin(2 * np.pi * hertz * np.arange(rate) / rate)  # noqa: E731
    got = np.array(resample(mx.array(at(source)), source=source, target=target))
    inside = slice(target // 10, -target // 10)
    assert got.shape == (target,)
    np.testing.assert_allclose(got[inside], at(target)[inside], atol=0.01)


def test_removes_what_the_lower_rate_cannot_hold():
    tone = mx.array(np.sin(2 * np.pi * 0.4 * np.arange(3000)))
    got = np.array(resample(tone, source=3, target=1))
    assert np.abs(got[20:-20]).max() < 0.01


def test_rates_without_a_common_divisor():
    seconds = np.arange(2000) / 44101
    got = resample(mx.array(np.cos(6000 * seconds)), source=44101, target=8000)
    assert got.shape == (363,)
    np.testing.assert_allclose(got[20:-20], np.cos(6000 * np.arange(363) / 8000)[20:-20], atol=0.01)


@pytest.mark.parametrize("shape", [(7,), (2, 7), (3, 2, 7)])
def test_batches(shape):
    x = mx.random.normal(shape, key=mx.random.key(0))
    got = resample(x, source=2, target=3)
    assert got.shape == (*shape[:-1], 11)
    last = resample(x.reshape(-1, 7)[-1], source=2, target=3)
    assert mx.allclose(got.reshape(-1, 11)[-1], last, atol=1e-6)


def test_edges():
    ones = mx.ones(50)
    held = resample(ones, source=1, target=3, edges="edge")
    assert mx.abs(held - 1).max() < 0.01
    assert mx.abs(resample(ones, source=1, target=3)[:3] - 1).max() > 0.05
