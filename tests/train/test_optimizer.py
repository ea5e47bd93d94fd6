import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_train import optimizer
from ltx_train.optimizer import adamw, average, clip, joined, new_moments, parted


def tensors(*shapes: tuple[int, ...]) -> dict[str, mx.array]:
    keys = mx.random.split(mx.random.key(0), len(shapes))
    drawn = zip(shapes, keys, strict=True)
    return {f"t{i}": mx.random.normal(shape, key=key) for i, (shape, key) in enumerate(drawn)}


def test_three_updates_are_those_of_the_definition():
    """In float64, from the formula in PyTorch's documentation."""
    rng = np.random.default_rng(0)
    x, grads = rng.standard_normal(5), rng.standard_normal((3, 5))
    parameters = {"x": mx.array(x, mx.float32)}
    moments = new_moments(parameters)
    first, second, rate = np.zeros(5), np.zeros(5), 0.01
    for n in range(1, 4):
        grad = {"x": mx.array(grads[n - 1], mx.float32)}
        parameters, moments = adamw(
            parameters, grad, moments, updates=mx.array(n), rate=mx.array(rate)
        )
        x = x * (1 - rate * 0.01)
        first = 0.9 * first + 0.1 * grads[n - 1]
        second = 0.999 * second + 0.001 * grads[n - 1] ** 2
        unbiased = first / (1 - 0.9**n), second / (1 - 0.999**n)
        x = x - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        assert np.array(parameters["x"]) == pytest.approx(x, rel=2e-6)


def test_clipping_bounds_the_joint_norm_and_keeps_the_direction():
    grads = tensors((2, 3), (4,))
    total = np.sqrt(sum((np.array(grad) ** 2).sum() for grad in grads.values()))
    clipped, norm = clip(grads, 0.5)
    assert norm.item() == pytest.approx(total, rel=1e-6)
    assert clip(clipped, 1)[1].item() == pytest.approx(0.5, rel=1e-5)
    assert np.array(clipped["t1"]) == pytest.approx(np.array(grads["t1"]) * 0.5 / total, rel=1e-5)
    same, _ = clip(grads, 100)
    assert all(mx.array_equal(same[name], grad) for name, grad in grads.items())


def test_the_average_forgets_its_start_and_follows():
    parameters, kept = {"x": mx.ones(2)}, {"x": mx.zeros(2)}
    (after,) = average(kept, parameters, decay=0.99, updates=mx.array(1)).values()
    assert after.tolist() == pytest.approx([9 / 11] * 2)  # of the start 2 / 11 are left
    (late,) = average(kept, parameters, decay=0.99, updates=mx.array(100000)).values()
    assert late.tolist() == pytest.approx([0.01] * 2, rel=1e-4)


@settings(deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), max_size=3).map(tuple), min_size=1, max_size=6),
    run=st.integers(1, 60),
)
def test_parting_undoes_joining_whatever_the_runs(shapes, run):
    before = tensors(*shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "RUN", run)
        vectors = joined(before)
        after = parted(vectors, before)
    assert after.keys() == before.keys()
    assert all(mx.array_equal(after[name], x) for name, x in before.items())
    largest = max(x.size for x in before.values())
    assert all(vector.size <= max(run, largest) for vector in vectors.values())


def test_the_order_of_names_is_the_same_whatever_that_of_the_mapping():
    """Sums of a run that was taken up would else differ in their last digit."""
    before = tensors((3,), (2,), (4,))
    turned = dict(reversed(before.items()))
    for one, other in zip(joined(before).values(), joined(turned).values(), strict=True):
        assert mx.array_equal(one, other)
