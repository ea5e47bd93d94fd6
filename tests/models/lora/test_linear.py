"""What a layer with adapters does in a call, and what it does not."""

import io
import re

import mlx.core as mx
import mlx.nn as nn
import pytest

from ltx_models.lora.linear import Adapter, LoRALinear

IN, OUT, RANK = 16, 24, 4
X = mx.random.normal((3, IN), key=mx.random.key(9))


def adapter(number: int) -> Adapter:
    keys = mx.random.split(mx.random.key(number), 2)
    A, B = mx.random.normal((RANK, IN), key=keys[0]), mx.random.normal((OUT, RANK), key=keys[1])
    return Adapter(A, B, 0.5)


class Joining(LoRALinear):
    """As it should not be: the adapters are put together in every call."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out)."""
        half = len(self.lora_A) // 2
        lora_A = mx.concatenate([self.lora_A[:half], self.lora_A[half:]])
        return self.base(x) + ((x @ lora_A.T) * self._factors) @ self.lora_B.T


def primitives(layer: nn.Module) -> list[str]:
    """What a call computes, by MLX's own names, once all that is kept has been evaluated."""
    mx.eval(layer(X))
    written = io.StringIO()
    mx.export_to_dot(written, layer(X))
    return re.findall(r'label ?="(\w+)"', written.getvalue())


def made(kind: type[LoRALinear], strengths: list[float]) -> LoRALinear:
    mx.random.seed(0)
    layer = kind(nn.Linear(IN, OUT), {number: adapter(number) for number in range(4)})
    layer.set_strengths(strengths)
    return layer


@pytest.mark.parametrize("strengths", [[1.0, 0.5, 0.3, -1.0], [1.0, 0.0, 0.3, 0.0]])
def test_no_adapter_is_put_together_or_taken_apart_in_a_call(strengths):
    own, joining = primitives(made(LoRALinear, strengths)), primitives(made(Joining, [1.0] * 4))
    assert own.count("AddMM") == 2  # the base with its bias, and the update onto it
    assert own.count("Matmul") == 1
    moving = {"Concatenate", "Gather", "Slice", "Take", "Copy"}
    assert moving & set(own) == set()
    assert moving & set(joining) == {"Concatenate", "Slice"}  # so they would be seen


def test_calls_use_the_same_matrices():
    layer = made(LoRALinear, [1.0, 0.0, 0.3, 0.0])
    before = (layer.lora_A, layer.lora_B, *layer._some)
    mx.eval(layer(X), layer(X))
    after = (layer.lora_A, layer.lora_B, *layer._some)
    assert [id(x) for x in before] == [id(x) for x in after]


@pytest.mark.parametrize("strengths", [[1.0, 0.5, 0.3, -1.0], [1.0, 0.0, 0.3, 0.0], [0.0] * 4])
def test_it_is_the_sum_of_its_parts(strengths):
    layer = made(LoRALinear, strengths)
    wanted = layer.base(X)
    for number, strength in enumerate(strengths):
        A, B, scale = adapter(number)
        wanted = wanted + strength * scale * (X @ A.T) @ B.T
    assert mx.allclose(layer(X), wanted, rtol=1e-5, atol=1e-5)
