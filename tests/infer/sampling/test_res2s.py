import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_infer.sampling.res2s import (
    LAST_SIGMA,
    coefficients,
    levels,
    res_2s,
    sde_step,
    standardised,
)
from ltx_infer.sampling.state import seeded_noise


def same(tokens):
    return tokens


def sample(num_steps: int, *, bong: bool) -> float:
    """Integrate dx/dsigma = x from x(1) = e; the exact answer is x(0.2) = e ** 0.2."""
    sigmas = np.linspace(1, 0.2, num_steps + 1).tolist()
    clean = lambda x, sigma: tuple(a - sigma * a for a in x)  # noqa: E731  (velocity is x itself)
    start = (mx.full((1, 1, 1), math.e),)
    *_, (x,) = res_2s(clean, start, sigmas, noise=None, blend=same, bong=bong)
    return x.item()


@pytest.mark.parametrize("bong", [False, True])
def test_second_order_of_convergence(bong):
    exact = math.exp(0.2)
    coarse, fine = (abs(sample(n, bong=bong) - exact) for n in (4, 8))
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.2)


def test_coefficients_of_a_step():
    # phi_1(-1) = 1 - 1/e and phi_2(-1) = 1/e.
    a21, b1, b2 = coefficients(1.0)
    assert a21 == pytest.approx(1 - math.exp(-0.5))
    assert b2 == pytest.approx(2 / math.e)
    assert b1 + b2 == pytest.approx(1 - 1 / math.e)


@given(st.floats(1e-12, 1e-3))
def test_coefficients_of_a_short_step_are_those_of_the_midpoint_rule(h):
    assert coefficients(h) == pytest.approx((0.5, 0.0, 1.0), abs=h + 1e-9)


def test_a_schedule_that_ends_at_zero_stops_above_it_and_takes_one_more_prediction():
    called = []

    def denoise(x, sigma):
        called.append(sigma)
        return tuple(mx.full(a.shape, sigma) for a in x)

    start, sigmas = (mx.ones((1, 4, 2)),), [1.0, 0.5, 0.0]
    steps = list(res_2s(denoise, start, sigmas, noise=seeded_noise(0), blend=same))
    assert called == [1.0, math.sqrt(0.5), 0.5, math.sqrt(0.5 * LAST_SIGMA), LAST_SIGMA]
    assert len(steps) == 2
    assert mx.allclose(steps[-1][0], mx.full((1, 4, 2), LAST_SIGMA))
    assert levels(sigmas) == (1.0, 0.5, LAST_SIGMA)
    assert levels([1.0, 0.5]) == (1.0, 0.5)


def test_noise_is_asked_for_substeps_then_steps_video_first():
    asked = []

    def noise(shape):
        asked.append(shape)
        return mx.random.normal(shape, key=mx.random.key(len(asked)))

    start = (mx.ones((1, 4, 8)), mx.ones((1, 2, 6)))
    list(res_2s(lambda x, sigma: x, start, [1.0, 0.5, 0.2], noise=noise, blend=same))
    assert asked == [(1, 4, 8), (1, 2, 6)] * 4


def test_short_steps_are_refined_and_only_they():
    def run(sigmas, *, bong):
        clean = lambda x, sigma: tuple(mx.tanh(a) for a in x)  # noqa: E731
        noise, start = seeded_noise(1), (mx.full((1, 4, 3), 2.0),)
        *_, (x,) = res_2s(clean, start, sigmas, noise=noise, blend=same, bong=bong)
        return x

    short, long, low = [1.0, 0.7], [1.0, 0.5], [0.03, 0.025]
    assert not mx.allclose(run(short, bong=True), run(short, bong=False), atol=1e-3)
    for sigmas in (long, low):
        assert mx.array_equal(run(sigmas, bong=True), run(sigmas, bong=False))


def test_one_clean_token_keeps_noise_from_all_tokens():
    target = np.ones((1, 3, 2))
    noise, sigma = np.full((1, 3, 2), 5.0), np.array([[[0.8], [0.4], [0.0]]])
    assert sde_step(np.zeros((1, 3, 2)), target, noise, sigma, sigma / 2) is target
    assert sde_step(np.zeros((1, 3, 2)), target, noise, 0.8, 0.4) is not target


@pytest.mark.parametrize("eta", [0.3, 0.5, 1.0])
def test_noise_replaces_as_much_as_it_adds(eta):
    # x_0 = 0, so that the tokens are noise alone: its deviation stays that of the level.
    old, new = np.random.default_rng(0).standard_normal((2, 1, 1000, 100))
    after = sde_step(0.8 * old, 0.5 * old, new, 0.8, 0.5, eta=eta)
    assert after.std() == pytest.approx(0.5, rel=0.01)
    assert np.corrcoef(after.ravel(), new.ravel())[0, 1] == pytest.approx(min(eta, 1), abs=0.02)


def test_noise_is_standardised_in_each_sample():
    raw = mx.random.normal((2, 5, 4), key=mx.random.key(3)) * mx.array([3.0, 0.5])[:, None, None]
    values = standardised(raw + 7)
    assert values.dtype == np.float64
    assert np.allclose(values.mean((1, 2)), 0)
    assert np.allclose(values.std((1, 2), ddof=1), 1)
