"""The hash of weights depends on the weights, and on nothing else."""

import mlx.core as mx
import pytest

from ltx_models.identity import weights_hash
from ltx_models.weights import WeightsError, save_tensors

TENSORS = {"vae.a": mx.arange(6.0), "vae.b": mx.ones((2, 3)), "other.c": mx.zeros(4)}


@pytest.fixture
def write(tmp_path):
    def write(name: str, **changes: mx.array):
        path = tmp_path / name
        save_tensors(path, TENSORS | {f"vae.{key}": value for key, value in changes.items()})
        return path

    return write


def test_neither_name_nor_other_tensors_matter(write):
    there = weights_hash([write("one.safetensors")], prefixes=("vae.",))
    split = write("two.safetensors")
    save_tensors(split, {"vae.b": TENSORS["vae.b"], "late": mx.ones(1)})
    rest = split.with_name("rest.safetensors")
    save_tensors(rest, {"vae.a": TENSORS["vae.a"]})
    assert weights_hash([split, rest], prefixes=("vae.",)) == there
    assert len(there) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"a": mx.arange(6.0) + 1e-6},
        {"a": mx.arange(6.0).reshape(2, 3)},
        {"b": mx.ones((2, 3), mx.float16)},
        {"c": mx.ones(1)},
    ],
)
def test_any_change_of_the_tensors_matters(write, changes):
    before, after = write("one.safetensors"), write("two.safetensors", **changes)
    assert weights_hash([before], prefixes=("vae.",)) != weights_hash([after], prefixes=("vae.",))


def test_what_is_no_safetensors_is_an_error(tmp_path):
    (tmp_path / "x.safetensors").write_text("none")
    with pytest.raises(WeightsError, match="not a complete safetensors"):
        weights_hash([tmp_path / "x.safetensors"])
