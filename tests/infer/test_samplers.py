import math

import mlx.core as mx
import pytest

from ltx_infer.samplers import euler


def sample(num_steps: int) -> float:
    """Integrate dx/dsigma = x from x(1) = e; the exact answer is x(0) = 1."""
    sigmas = [1 - i / num_steps for i in range(num_steps + 1)]
    clean = lambda x, sigma: tuple(a - sigma * a for a in x)  # noqa: E731  (velocity is x itself)
    *_, (x,) = euler(clean, (mx.array([math.e]),), sigmas)
    return x.item()


def test_order_of_convergence():
    coarse, fine = abs(sample(32) - 1), abs(sample(64) - 1)
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.1)


def test_steps_to_zero_on_the_last_prediction():
    target = mx.array([3.0, -1.0])
    *_, (x,) = euler(lambda x, sigma: (target,), (mx.array([9.0, 9.0]),), [1.0, 0.5, 0.0])
    assert mx.allclose(x, target, atol=1e-6)


def test_yields_once_a_step_for_every_stream():
    streams = (mx.ones((1, 4, 8)), mx.ones((1, 2, 6)))
    steps = list(euler(lambda x, sigma: x, streams, [1.0, 0.5, 0.25, 0.0]))
    assert len(steps) == 3
    assert [a.shape for a in steps[-1]] == [(1, 4, 8), (1, 2, 6)]
