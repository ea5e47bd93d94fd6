import math
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.sampling.res2s import res_2s
from ltx_infer.sampling.samplers import ancestral_step, euler, euler_ancestral
from ltx_infer.sampling.state import State, Tokens, add_noise, blender, seeded_noise

SIGMAS = [1.0, 0.9, 0.6, 0.3, 0.0]


def same(tokens: Tokens) -> Tokens:
    return tokens


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


def test_without_noise_the_ancestral_path_is_that_of_euler():
    def never(shape):
        raise AssertionError("noise was asked for")

    def denoise(x, sigma):
        return tuple(mx.tanh(a + sigma) for a in x)

    start = (mx.random.normal((1, 4, 3), key=mx.random.key(0)),)
    plain = list(euler(denoise, start, SIGMAS))
    steps = list(euler_ancestral(denoise, start, SIGMAS, noise=never, blend=same, eta=0))
    assert all(mx.allclose(a, b, atol=1e-6) for (a,), (b,) in zip(plain, steps, strict=True))


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ancestral_step_keeps_the_variance_of_its_level(eta):
    # Tokens and prediction of x_0 = 0 with unit noise: after the step the deviation is sigma_next.
    x, noise = mx.random.normal((2, 100_000), key=mx.random.key(1))
    after = ancestral_step(0.8 * x, mx.zeros_like(x), noise, 0.8, 0.5, eta=eta)
    assert mx.std(after).item() == pytest.approx(0.5, rel=0.01)


def test_ancestral_noise_is_asked_video_first_and_not_for_the_last_step():
    asked = []

    def noise(shape):
        asked.append(shape)
        return mx.zeros(shape)

    start = (mx.ones((1, 4, 8)), mx.ones((1, 2, 6)))
    denoise = lambda x, sigma: x  # noqa: E731
    list(euler_ancestral(denoise, start, [1.0, 0.5, 0.25, 0.0], noise=noise, blend=same))
    assert asked == [(1, 4, 8), (1, 2, 6)] * 2


SAMPLERS = {
    "euler": lambda noise, blend, masks: euler,
    "euler_ancestral": lambda noise, blend, masks: partial(
        euler_ancestral, noise=noise, blend=blend
    ),
    "res_2s": lambda noise, blend, masks: partial(res_2s, noise=noise, blend=blend),
    "res_2s by token": lambda noise, blend, masks: partial(
        res_2s, noise=noise, blend=blend, masks=masks
    ),
    "res_2s without noise": lambda noise, blend, masks: partial(res_2s, noise=None, blend=blend),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("sigmas", [SIGMAS, np.linspace(1, 0.05, 12).tolist()], ids=str)
def test_given_tokens_stay_exactly_the_clean_ones(name, sigmas):
    keys = mx.random.split(mx.random.key(5), 3)
    clean = 4 * mx.random.normal((1, 9, 5), key=keys[0])
    mask = np.ones((1, 9), np.float32)
    mask[0, :3], mask[0, 3] = 0, 0.5
    state = State(mx.zeros((1, 9, 5)), clean, mask, np.zeros((1, 1, 9, 2), np.float32), 9)
    blend = blender([state])

    def denoise(x: Tokens, sigma: float) -> Tokens:
        return blend(tuple(mx.tanh(2 * a + sigma) for a in x))

    start = (add_noise(state, mx.random.normal((1, 9, 5), key=keys[1]), 1.0),)
    sampler = SAMPLERS[name](seeded_noise(2), blend, [mask])
    steps = list(sampler(denoise, start, sigmas))
    assert len(steps) == len(sigmas) - 1
    for (x,) in steps:
        assert mx.array_equal(x[:, :3], clean[:, :3])
        assert not mx.allclose(x[:, 3:], clean[:, 3:], atol=1e-2)
