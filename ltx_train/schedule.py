"""The learning rate of each optimizer step, as the public trainer's schedules give it.

Each schedule is a function of the steps done (N,), their total, the rate to start from, and its
parameters under the names that ``optimization.scheduler_params`` has.
"""

from collections.abc import Callable, Mapping

import numpy as np


def learning_rates(
    kind: str, *, steps: int, rate: float, params: Mapping[str, float] | None = None
) -> np.ndarray:
    """The rates (steps,) of a run; ``kind`` is a key of ``SCHEDULES``.

    Parameters that make no sense give rates that are negative or not finite.
    """
    with np.errstate(all="ignore"):
        return SCHEDULES[kind](np.arange(steps), steps, rate, **(params or {}))


def _constant(done: np.ndarray, _steps: int, rate: float) -> np.ndarray:
    return np.full(done.shape, rate)


def _linear(
    done: np.ndarray,
    steps: int,
    rate: float,
    *,
    start_factor: float = 1.0,
    end_factor: float = 0.1,
) -> np.ndarray:
    return rate * (start_factor + (end_factor - start_factor) * done / steps)


def _cosine(done: np.ndarray, steps: float, rate: float, *, eta_min: float = 0.0) -> np.ndarray:
    return eta_min + (rate - eta_min) * (1 + np.cos(np.pi * done / steps)) / 2


def _restarts(
    done: np.ndarray,
    steps: int,
    rate: float,
    *,
    T_0: float | None = None,  # noqa: N803  (the schema's names)
    T_mult: float = 1.0,  # noqa: N803
    eta_min: float = 5e-5,
) -> np.ndarray:
    """Cosines one after the other, each ``T_mult`` times as long as the one before."""
    period = max(steps // 4, 1) if T_0 is None else T_0
    if T_mult == 1:
        return _cosine(done % period, period, rate, eta_min=eta_min)
    if not (T_mult > 1 and period > 0):
        return np.full(done.shape, np.nan)
    begin, rates = 0.0, np.empty(done.shape)
    while begin < steps:
        inside = (done >= begin) & (done < begin + period)
        rates[inside] = _cosine(done[inside] - begin, period, rate, eta_min=eta_min)
        begin, period = begin + period, period * T_mult
    return rates


def _polynomial(done: np.ndarray, steps: int, rate: float, *, power: float = 1.0) -> np.ndarray:
    return rate * (1 - done / steps) ** power


def _step(
    done: np.ndarray,
    steps: int,
    rate: float,
    *,
    step_size: float | None = None,
    gamma: float = 0.1,
) -> np.ndarray:
    size = max(steps // 2, 1) if step_size is None else step_size
    return rate * gamma ** (done // size)


SCHEDULES: Mapping[str, Callable[..., np.ndarray]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _restarts,
    "polynomial": _polynomial,
    "step": _step,
}
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "constant": (),
    "linear": ("start_factor", "end_factor"),
    "cosine": ("eta_min",),
    "cosine_with_restarts": ("T_0", "T_mult", "eta_min"),
    "polynomial": ("power",),
    "step": ("step_size", "gamma"),
}
