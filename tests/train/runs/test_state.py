"""States on disk: read back as they were, whole or not there."""

import json
import subprocess
import sys

import mlx.core as mx
import pytest

from ltx_models.errors import UserError
from ltx_models.files import remove_unfinished
from ltx_train.config import read_config
from ltx_train.optimizer import Moments
from ltx_train.runs.state import (
    RunFacts,
    read_facts,
    read_state,
    remove_states,
    state_path,
    states,
    write_state,
)
from ltx_train.step import TrainState

FACTS = RunFacts(step=7, is_validated=True, base_hash="b", data_hash="d", wandb_id=None)


def state(scale: float, *, rank: int = 2, average: bool = True) -> TrainState:
    weights = {name: mx.full((rank, 3), scale * i) for i, name in enumerate(("x.lora_A", "y"), 1)}
    moments = Moments(*({name: x / part for name, x in weights.items()} for part in (2, 4)))
    kept = {name: x + 1 for name, x in weights.items()} if average else {}
    counts = mx.array(int(scale), mx.int32), mx.array(1, mx.int32)
    return TrainState(weights, moments, kept, *counts)


def flat(one: TrainState) -> dict[str, list]:
    groups = {"weights": one.parameters, **one.moments._asdict(), "average": one.average}
    found = {f"{g}.{n}": x.tolist() for g, tensors in groups.items() for n, x in tensors.items()}
    return {**found, "counts": [one.updates.item(), one.skipped_in_a_row.item()]}


@pytest.fixture
def config(configured):
    return configured()


def test_a_state_is_read_as_it_was_written(config):
    path = write_state(config, FACTS, state(7))
    assert path == state_path(config.output, 7)
    assert flat(read_state(path, state(0))) == flat(state(7))
    assert read_facts(path) == FACTS
    assert read_config(path / "training_config.yaml") == config


def test_a_minimal_state_has_no_optimizer(config):
    changed = {"save_training_state": "minimal"}
    checkpoints = config.checkpoints.model_copy(update=changed)
    path = write_state(config.model_copy(update={"checkpoints": checkpoints}), FACTS, state(7))
    read, fresh = flat(read_state(path, state(0))), flat(state(0))
    assert read["weights.y"] == read["average.y"] == flat(state(7))["weights.y"]
    assert read["first.y"] == fresh["first.y"]
    assert read["counts"] == fresh["counts"]


def test_the_newest_is_the_last(config):
    for step in (10, 9, 100_000):
        write_state(config, FACTS._replace(step=step), state(step))
    assert list(states(config.output)) == [9, 10, 100_000]
    remove_states(config.output, [9, 100_000])
    assert list(states(config.output)) == [10]
    assert [path.name for path in (config.output / "checkpoints").iterdir()] == ["state_00010"]


def test_a_state_is_written_over(config):
    write_state(config, FACTS, state(1))
    path = write_state(config, FACTS, state(2))
    assert flat(read_state(path, state(0))) == flat(state(2))


def test_what_a_killed_run_had_begun_goes(config):
    folder = config.output / "checkpoints"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".state_00001.{dead.pid}.unfinished", ".state_00002.1.unfinished"):
        (folder / name).mkdir(parents=True)
    (folder / f".lora.safetensors.{dead.pid}.unfinished").touch()
    remove_unfinished(config.output)
    assert [path.name for path in folder.iterdir()] == [".state_00002.1.unfinished"]
    assert states(config.output) == {}


@pytest.mark.parametrize(
    ("name", "read", "said"),
    [
        ("run.json", read_facts, "run.json: Expecting value"),
        (
            "state.safetensors",
            lambda path: read_state(path, state(0)),
            "not a complete safetensors file (5 bytes)",
        ),
    ],
)
def test_a_damaged_state_is_named(config, name, read, said):
    path = write_state(config, FACTS, state(7))
    (path / name).write_text("wrong")
    with pytest.raises(UserError) as error:
        read(path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{path}: this state is damaged: {said}")
    assert second == "Remove it, and --resume takes the one before it"
    (path / name).unlink()
    with pytest.raises(UserError, match="this state is damaged"):
        read(path)


def test_facts_of_another_kind_are_damaged(config):
    path = write_state(config, FACTS, state(7))
    (path / "run.json").write_text(json.dumps({"step": 7}))
    with pytest.raises(UserError, match=r"this state is damaged: run\.json: .*base_hash"):
        read_facts(path)


def test_weights_of_another_run(config):
    path = write_state(config, FACTS, state(7))
    with pytest.raises(UserError) as error:
        read_state(path, state(7, rank=4))
    assert str(error.value).splitlines() == [
        f"{path}: what it trained is not what this run trains:",
        "parameters.x.lora_A: (2, 3), (4, 3) would fit",
        "parameters.y: (2, 3), (4, 3) would fit",
    ]
    with pytest.raises(UserError, match=r"average\.x\.lora_A is unknown"):
        read_state(path, state(7, average=False))


def test_a_full_disk_leaves_no_state(config, small_files):
    with pytest.raises(UserError, match="cannot be written"):
        write_state(config, FACTS, state(7, rank=20_000))
    assert states(config.output) == {}
    assert list((config.output / "checkpoints").iterdir()) == []
