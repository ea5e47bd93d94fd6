"""Tapes of small computations, and the most that they take while MLX evaluates them."""

import gc
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import pytest

from ltx_infer.plan.peak import CPU, GPU, in_turn, peak
from ltx_infer.plan.tape import Tape, trace, with_reading
from ltx_models.activations import gelu

MB = 1e6
SIDE, RUNS = 512, 3
WHOLE = 4 * SIDE**2  # bytes of a square


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(SIDE, 4 * SIDE)
        self.outer = nn.Linear(4 * SIDE, SIDE)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.outer(gelu(self.inner(x)))


def attention(x: mx.array) -> mx.array:
    q = x.reshape(1, SIDE, 8, -1).swapaxes(1, 2)
    out = mx.fast.scaled_dot_product_attention(q, q, q, scale=1.0)
    return out.swapaxes(1, 2).flatten(-2)


def convolved(x: mx.array) -> mx.array:
    picture = x.reshape(1, 128, 128, -1)
    kernel = mx.ones((16, 3, 3, 16))
    for _ in range(3):
        picture = mx.conv2d(picture, kernel, padding=1)
    return picture


COMPUTATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "one after the other": lambda x: mx.exp(mx.sin(mx.square(x))),
    "products": lambda x: ((x @ x) @ (x @ x.T)).T @ x,
    "views": lambda x: mx.split(x.T.reshape(2, -1), 2, axis=1)[0][:, ::2] + 1,
    "a copy for a shape": lambda x: x.reshape(8, SIDE // 8, SIDE).swapaxes(0, 1).flatten(0, 1) * 2,
    "attention": attention,
    "convolutions": convolved,
    "many in a row": lambda x: mx.stack([mx.tanh(x * i) @ x for i in range(24)]).sum(0),
}


def measured(call: Callable[[mx.array], mx.array], x: mx.array) -> int:
    """The most of some runs: other work on the machine lets the device catch up with its queue."""
    return max(_measured(call, x) for _ in range(RUNS))


def _measured(call: Callable[[mx.array], mx.array], x: mx.array) -> int:
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    result = call(x)
    mx.eval(result)
    return mx.get_peak_memory() - before


def taped(call: Callable[[mx.array], mx.array]) -> Tape:
    return trace(nn.Module(), call, mx.zeros((SIDE, SIDE)))


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_as_measured(name):
    call = COMPUTATIONS[name]
    x = mx.random.normal((SIDE, SIDE))
    mx.eval(x)
    planned, found = peak(taped(call), pace=CPU), measured(call, x)
    assert abs(planned - found) <= max(0.15 * found, 0.2 * WHOLE)


def test_a_layer_s_weights_are_there():
    layer = Layer()
    x = mx.random.normal((2 * SIDE, SIDE))
    mx.eval(layer.parameters(), x)
    tape = trace(layer, layer.__call__, x)
    assert abs(peak(tape, pace=CPU) - measured(layer.__call__, x)) < 2 * MB
    assert len(tape.weights) == 4
    assert tape.inputs
    assert mx.array_equal(layer(x), layer(x))  # the layer has its own weights again


def test_nothing_is_computed():
    mx.synchronize()
    gc.collect()
    before = mx.get_active_memory()
    huge = Layer()
    tape = trace(huge, huge.__call__, mx.zeros((1 << 20, SIDE)))
    assert mx.get_active_memory() - before < MB
    assert peak(tape, pace=CPU) > 10**10


def test_weights_that_are_read_meanwhile():
    layer = Layer()
    tape = trace(layer, layer.__call__, mx.zeros((1, SIDE)))
    weights = sum(tape.arrays[name].nbytes for name in tape.weights)
    as_stored = peak(with_reading(tape, {}), pace=CPU)
    assert weights <= as_stored < 1.1 * weights
    widened = peak(with_reading(tape, dict.fromkeys(tape.weights, 2)), pace=CPU)
    assert 1.2 * weights < widened < 1.6 * weights


def test_a_gpu_has_no_scores_and_waits_sooner():
    on_cpu, on_gpu = (peak(taped(attention), pace=pace) for pace in (CPU, GPU))
    assert on_gpu < on_cpu - 8 * WHOLE / 2
    many = taped(COMPUTATIONS["many in a row"])
    assert peak(many, pace=CPU, limit=20 * WHOLE) < peak(many, pace=CPU)


def test_every_operation_has_its_turn_after_what_it_needs():
    tape = taped(COMPUTATIONS["many in a row"])
    order = in_turn(tape)
    assert sorted(map(id, order)) == sorted(map(id, tape.operations))
    there = {*tape.inputs, *tape.arrays} - {n for each in tape.operations for n in each.outputs}
    for each in order:
        assert there.issuperset(each.inputs)
        there.update(each.outputs)
