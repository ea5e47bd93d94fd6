"""Which noise levels to train at (spec/training.md 1.3).

Samplers are functions of raw draws on the host, so that a recorded run can be replayed.
"""

from collections.abc import Mapping

import numpy as np

from ltx_models.flow import token_shift

# Between the 0.5th and the 99.9th percentile of the normal draw the levels are spread over [0, 1].
LOW_PERCENTILE, HIGH_PERCENTILE = -2.5758, 3.0902


def shifted_logit_normal(
    normal: np.ndarray,
    uniform: np.ndarray,
    choice: np.ndarray,
    *,
    num_tokens: int,
    std: float = 1.0,
    eps: float = 1e-3,
    uniform_prob: float = 0.1,
) -> np.ndarray:
    """Levels (N,) of draws (N,): a stretched logit-normal, pushed towards noise by the tokens.

    Where ``choice`` is below ``uniform_prob`` the level is ``uniform``, scaled to [eps, 1].
    """
    mean = token_shift(num_tokens)
    low, high = (_below_one(mean + z * std) for z in (LOW_PERCENTILE, HIGH_PERCENTILE))
    stretched = (low - _below_one(mean + std * normal)) / (low - high)
    reflected = np.where(stretched < eps, 2 * eps - stretched, stretched)
    return np.where(choice < uniform_prob, eps + (1 - eps) * uniform, np.clip(reflected, 0, 1))


def uniform(draw: np.ndarray, *, min_value: float = 0.0, max_value: float = 1.0) -> np.ndarray:
    """Levels (N,), evenly spread, of draws (N,) in [0, 1)."""
    return min_value + (max_value - min_value) * draw


PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "shifted_logit_normal": ("std", "eps", "uniform_prob"),
    "uniform": ("min_value", "max_value"),
}


def draw_sigmas(
    rng: np.random.Generator,
    count: int,
    mode: str,
    params: Mapping[str, float],
    *,
    num_tokens: int,
) -> np.ndarray:
    """Levels (count,) of a mode of ``PARAMETERS``, for sequences of so many generated tokens."""
    if mode == "uniform":
        return uniform(rng.random(count), **params)
    draws = (rng.standard_normal(count), rng.random(count), rng.random(count))
    return shifted_logit_normal(*draws, num_tokens=num_tokens, **params)


def _below_one(x: np.ndarray | float) -> np.ndarray:
    """1 - sigmoid(x): long clips lie so near to 1 that differences of the sigmoid would vanish."""
    return 1 / (1 + np.exp(np.asarray(x, np.float64)))
