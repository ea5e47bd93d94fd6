import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_train.timesteps import draw_sigmas, shifted_logit_normal


def draw(num_tokens: int, mode: str = "shifted_logit_normal", **params: float) -> np.ndarray:
    return draw_sigmas(np.random.default_rng(0), 20000, mode, params, num_tokens=num_tokens)


@pytest.mark.parametrize(
    ("num_tokens", "mean", "std", "quantiles"),
    [
        (16, 0.5746, 0.2394, [0.1386, 0.6002, 0.9198]),
        (1024, 0.6248, 0.2366, [0.1641, 0.6679, 0.9384]),
        (8192, 0.8158, 0.2002, [0.3422, 0.8895, 0.9841]),
    ],
)
def test_statistics_are_the_reference_samplers(num_tokens, mean, std, quantiles):
    """Numbers of golden/README.md, from 20000 draws of the reference."""
    sigmas = draw(num_tokens)
    assert sigmas.mean() == pytest.approx(mean, abs=0.006)
    assert sigmas.std() == pytest.approx(std, abs=0.006)
    assert np.quantile(sigmas, [0.05, 0.5, 0.95]) == pytest.approx(quantiles, abs=0.015)


@given(
    z=st.floats(-8, 8),
    tokens=st.integers(1, 100_000),
    std=st.floats(0.01, 3),
    eps=st.floats(1e-6, 0.1),
)
def test_levels_are_in_range(z, tokens, std, eps):
    """Also far out, where the stretched level leaves [0, 1] before it is reflected and cut."""
    ones = np.ones(1)
    sigma = shifted_logit_normal(z * ones, ones, ones, num_tokens=tokens, std=std, eps=eps)
    assert 0 <= sigma[0] <= 1
    if z > 4:
        assert sigma[0] == 1


def test_choice_decides_between_the_two_draws():
    normal, uniform, choice = np.zeros(2), np.full(2, 0.25), np.array([0.09, 0.11])
    drawn, other = shifted_logit_normal(normal, uniform, choice, num_tokens=1024)
    assert drawn == pytest.approx(0.001 + 0.999 * 0.25)
    assert other > 0.6


def test_uniform_keeps_its_bounds():
    sigmas = draw(1, "uniform", min_value=0.2, max_value=0.4)
    assert sigmas.min() == pytest.approx(0.2, abs=1e-3)
    assert sigmas.max() == pytest.approx(0.4, abs=1e-3)
