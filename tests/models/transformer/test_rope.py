import mlx.core as mx
import numpy as np
import pytest

from ltx_models.transformer.rope import apply_rope, rope_table

# 10000 ** torch.linspace(0, 1, 27) * pi / 2, in float32 by PyTorch, to the last bit; numpy's
# linspace, which rounds once, misses 10 of them.
TORCH = np.array(
    [
        *(0x3FC90FDB, 0x400F4457, 0x404C2B8D, 0x40917B51, 0x40CF538C, 0x4113BB0D, 0x41528809),
        *(0x419603B1, 0x41D5C934, 0x4218555D, 0x42591740, 0x429AB037, 0x42DC7263, 0x431D1460),
        *(0x435FDAC3, 0x439F8205, 0x43E350A8, 0x4421F944, 0x4466D446, 0x44A47A44, 0x44EA65C4),
        *(0x4527052E, 0x456E0562, 0x45A99A26, 0x45F1B357, 0x462C3958, 0x46756FDB),
    ],
    np.uint32,
).view(np.float32)


def table(count: int, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines at the last position, where the angles are the frequencies."""
    last = np.ones((1, 1, 1), np.float32)
    cos, sin = rope_table(
        last, dim=2 * count, num_heads=1, theta=1e4, max_pos=[1.0], precision=precision
    )
    return np.array(cos).ravel(), np.array(sin).ravel()


def test_float32_frequencies_are_pytorchs():
    cos, sin = table(27, "float32")
    assert np.array_equal(cos, np.cos(TORCH))
    assert np.array_equal(sin, np.sin(TORCH))


def test_float64_frequencies_are_rounded_once():
    exact = (1e4 ** np.linspace(0, 1, 27) * (np.pi / 2)).astype(np.float32)
    assert not np.array_equal(exact, TORCH)
    assert np.array_equal(table(27, "float64")[1], np.sin(exact))


@pytest.mark.parametrize(
    ("precision", "end"), [("float32", TORCH[-1]), ("float64", np.float32(1e4 * np.pi / 2))]
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frequencies_begin_and_end(count, precision, end):
    _, sin = table(count, precision)
    assert sin[0] == np.sin(TORCH[0])
    assert count == 1 or sin[-1] == np.sin(end)


def test_rotation_keeps_lengths_and_is_undone_by_its_inverse():
    positions = np.random.default_rng(0).uniform(0, 9, (1, 3, 4)).astype(np.float32)
    cos, sin = rope_table(
        positions, dim=32, num_heads=2, theta=1e4, max_pos=[20, 9, 9], precision="float64"
    )
    assert cos.shape == sin.shape == (1, 2, 4, 8)
    x = mx.random.normal((1, 2, 4, 16), key=mx.random.key(0))
    turned = apply_rope(x, (cos, sin))
    assert mx.allclose(turned.square().sum(axis=-1), x.square().sum(axis=-1), rtol=1e-4)
    assert mx.allclose(apply_rope(turned, (cos, -sin)), x, atol=1e-5)
