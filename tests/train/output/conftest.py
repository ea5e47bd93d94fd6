"""A configuration, and the facts of a run on the tiny model with two samples."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_train.config import TrainConfig, read_config
from ltx_train.data.batches import data_folders
from ltx_train.data.dataset import open_dataset
from ltx_train.output.facts import Facts, run_facts
from tests.train.config.conftest import VALID
from tests.train.data.sets import CONDITIONS, put, put_sample


@pytest.fixture
def configured(tmp_path) -> Callable[..., TrainConfig]:
    """The configuration of a run into ``out``, with some values put over it."""

    def configured(*overrides: str, text: str = VALID) -> TrainConfig:
        path = tmp_path / "lora.yaml"
        path.write_text(text)
        return read_config(path, [f"output_dir={tmp_path / 'out'}", *overrides])

    return configured


@pytest.fixture
def samples(tmp_path) -> Path:
    """A data folder of two samples, the captions of which begin with a trigger."""
    root = tmp_path / "data"
    for name in ("a", "b"):
        put_sample(root, name)
        about = {"caption": f"ohwx, a boat {name}", "trigger": "ohwx"}
        put(root / f"conditions/{name}.safetensors", CONDITIONS, **about)
    return root


@pytest.fixture
def checkpoint(tiny) -> Checkpoint:
    return open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")


@pytest.fixture
def gathered(samples, checkpoint, configured) -> Callable[..., Facts]:
    """The facts of a run with that configuration on these samples."""

    def gathered(*overrides: str, text: str = VALID) -> Facts:
        config = configured(*overrides, text=text)
        dataset = open_dataset(samples, data_folders(config.training_strategy))
        return run_facts(config, checkpoint, dataset)

    return gathered
