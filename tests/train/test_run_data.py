"""Runs on data that are not as they should be, or not as they were."""

from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from tests.train.conftest import rows, train


@pytest.fixture
def other_data(data, tmp_path):
    """The data with a change of one file's tensors and metadata."""

    def write(name: str, *, tensors=None, metadata=None) -> Path:
        for path in data.rglob("*.safetensors"):
            copy = tmp_path / "other" / path.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        path = tmp_path / "other" / f"{name}.safetensors"
        found, about = mx.load(str(path), return_metadata=True)
        write_tensors(path, {**found, **(tensors or {})}, {**about, **(metadata or {})})
        return tmp_path / "other"

    return write


def test_other_data_are_told(configured, finished, other_data):
    root = other_data("latents/a", tensors={"latents": mx.ones((16, 2, 1, 2))})
    with pytest.raises(UserError, match="the data: other ones than before"):
        train(configured(f"data.preprocessed_data_root={root}"), resume=True)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_log(configured, other_data):
    root = other_data("latents/a", tensors={"latents": mx.full((16, 2, 1, 2), 1e30)})
    with pytest.raises(UserError, match="step 3: for 3 steps in a row loss or gradient are not"):
        train(configured(f"data.preprocessed_data_root={root}", "optimization.batch_size=2"))
    found = rows(configured().output)
    assert [row["skipped_in_a_row"] for row in found] == [1, 2, 3]
    assert found[0]["grad_norm"] is None
    assert not (configured().output / "checkpoints").exists()


def test_a_run_may_end_with_a_step_that_was_skipped(configured, other_data):
    """Its last loss is then that of the steps before."""
    root = other_data("latents/a", tensors={"latents": mx.full((16, 2, 1, 2), 1e30)})
    overrides = ("optimization.steps=2", "optimization.batch_size=1", "seed=3")
    made = train(configured(f"data.preprocessed_data_root={root}", *overrides))
    first, last = rows(configured().output)
    assert [first["skipped_in_a_row"], last["skipped_in_a_row"]] == [0, 1]
    assert made.loss == first["loss"]
