import mlx.core as mx
import numpy as np
import pytest

from ltx_models.lora.files import read_lora
from ltx_models.lora.scrambled import restored, scrambled
from tests.models.lora.families import save

RANK, COLUMNS, LAYERS = 16, 512, 24


def trained(seed: int, *, rank: int = RANK) -> np.ndarray:
    """A factor as training leaves it: some inputs are larger than others, for all rows."""
    draw = np.random.default_rng(seed)
    sizes = np.exp(0.25 * draw.normal(size=COLUMNS))
    return draw.normal(size=(rank, COLUMNS)) * sizes


def written_as_it_lies(factor: np.ndarray) -> np.ndarray:
    """The bytes of the array that this is the transpose of, under this one's shape."""
    return np.ascontiguousarray(factor.T).reshape(factor.shape)


def as_mlx(factors) -> list[mx.array]:
    return [mx.array(factor, mx.float32) for factor in factors]


@pytest.mark.parametrize("rank", [4, 16, 64])
def test_scrambled_factors_are_found_and_restored(rank):
    right = [trained(seed, rank=rank) for seed in range(LAYERS)]
    wrong = [written_as_it_lies(factor) for factor in right]
    assert scrambled(as_mlx(wrong))
    assert not scrambled(as_mlx(right))
    for factor, mixed in zip(as_mlx(right), as_mlx(wrong), strict=True):
        assert mx.array_equal(restored(mixed), factor)


@pytest.mark.parametrize("rows", [np.ones(RANK), np.exp(np.linspace(-3, 0, RANK))])
@pytest.mark.parametrize("seed", range(4))
def test_what_cannot_be_told_is_not_called_scrambled(seed, rows):
    """Untrained factors, also with rows of sizes of their own, as of a singular value each."""
    draw = np.random.default_rng(seed)
    drawn = [rows[:, None] * draw.uniform(-1, 1, (RANK, COLUMNS)) for _ in range(LAYERS)]
    assert not scrambled(as_mlx(drawn))
    assert not scrambled([])
    assert not scrambled([mx.ones((1, 8)), mx.ones((8,))])


def test_constant_factors():
    assert not scrambled([mx.ones((4, 8))] * 3)
    assert not scrambled([mx.zeros((4, 8))] * 3)


def test_a_scrambled_file_is_said(tmp_path):
    tensors = {}
    for number in range(LAYERS):
        at = f"diffusion_model.transformer_blocks.{number}.attn1.to_q"
        tensors[f"{at}.lora_A.weight"] = written_as_it_lies(trained(number))
        tensors[f"{at}.lora_B.weight"] = np.ones((8, RANK))
    file = read_lora(save(tmp_path, tensors, {}))
    assert file.scrambled
    (line,) = file.warnings((2, 3))
    assert "its factors look scrambled" in line
    assert "ltx-lora convert --repair puts them right" in line
