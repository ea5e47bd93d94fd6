import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_train import optimizer
from ltx_train.optimizer import (
    adamw,
    adamw_factors,
    average_keep,
    clip_factor,
    global_norm,
    in_runs,
)


def tensors(*shapes: tuple[int, ...]) -> dict[str, mx.array]:
    keys = mx.random.split(mx.random.key(0), len(shapes))
    drawn = zip(shapes, keys, strict=True)
    return {f"t{i}": mx.random.normal(shape, key=key) for i, (shape, key) in enumerate(drawn)}


def test_three_updates_are_those_of_the_definition():
    """In float64, from the formula in PyTorch's documentation."""
    rng = np.random.default_rng(0)
    x, grads = rng.standard_normal(5), rng.standard_normal((3, 5))
    got = mx.array(x, mx.float32)
    moments = mx.zeros(5), mx.zeros(5)
    first, second, rate = np.zeros(5), np.zeros(5), 0.01
    for n in range(1, 4):
        grad = mx.array(grads[n - 1], mx.float32)
        got, moments = adamw(got, grad, moments, adamw_factors(mx.array(n), mx.array(rate)))
        x = x * (1 - rate * 0.01)
        first = 0.9 * first + 0.1 * grads[n - 1]
        second = 0.999 * second + 0.001 * grads[n - 1] ** 2
        unbiased = first / (1 - 0.9**n), second / (1 - 0.999**n)
        x = x - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        assert np.array(got) == pytest.approx(x, rel=2e-6)


def test_clipping_bounds_the_joint_norm():
    grads = tensors((2, 3), (4,))
    total = np.sqrt(sum((np.array(grad) ** 2).sum() for grad in grads.values()))
    norm = global_norm(grads)
    assert norm.item() == pytest.approx(total, rel=1e-6)
    assert clip_factor(norm, 0.5).item() * total == pytest.approx(0.5, rel=1e-5)
    assert clip_factor(norm, 100).item() == 1


def test_the_average_forgets_its_start():
    assert average_keep(mx.array(1), 0.99).item() == pytest.approx(2 / 11)
    assert average_keep(mx.array(100_000), 0.99).item() == pytest.approx(0.99)


@settings(deadline=None)
@given(
    shapes=st.lists(
        st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), min_size=1, max_size=6
    ),
    run=st.integers(1, 60),
)
def test_a_change_in_runs_is_that_of_each_tensor(shapes, run):
    one, two = tensors(*shapes), {name: -x for name, x in tensors(*shapes).items()}
    sizes = []

    def change(given):
        sizes.append(given[0].size)
        assert len({x.shape for x in given}) == 1
        return [given[0] + 2 * given[1], given[1] * 0, given[0]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "LEAST_RUN", run)
        negative, zero, same = in_runs(change, [one, two])
    assert negative.keys() == zero.keys() == one.keys()
    for name, x in one.items():
        assert mx.array_equal(negative[name], -x)
        assert mx.array_equal(zero[name], mx.zeros_like(x))
        assert mx.array_equal(same[name], x)
    largest = max(x.size for x in one.values())
    assert all(size <= max(run, largest, sum(sizes) // 32) for size in sizes)


def test_the_order_of_names_is_the_same_whatever_that_of_the_mapping():
    """Sums of a run that was taken up would else differ in their last digit."""
    before = tensors((3,), (2,), (4,))
    turned = dict(reversed(before.items()))
    seen = []
    for group in (before, turned):
        in_runs(lambda vectors: seen.append(vectors[0]) or vectors, [group])
    assert mx.array_equal(*seen)
    assert global_norm(before).item() == global_norm(turned).item()
