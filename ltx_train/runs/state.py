"""The state of a run on disk: a folder that is whole or not there.

``checkpoints/state_00250/``: ``state.safetensors`` has all that steps change (``TrainState``),
``run.json`` what they do not, and ``training_config.yaml`` says how they were made. The folder is
written under a hidden name and then renamed, so that a run that is killed leaves the one before.
Batches, noise and dropout are drawn from seed and step alone, and need no place here.
"""

import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import yaml

from ltx_infer.pipeline.find_lora import CHECKPOINTS
from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.files import write_text
from ltx_models.weights import TensorFile, WeightsError, save_tensors
from ltx_train.config import TrainConfig
from ltx_train.optimizer import Moments, Tensors
from ltx_train.output.layout import CONFIG
from ltx_train.step import TrainState

STATE = re.compile(r"state_(\d+)")
TENSORS, RUN = "state.safetensors", "run.json"


class RunFacts(NamedTuple):
    """What a state says beside its tensors."""

    step: int
    is_validated: bool  # whether the validation after this step, if one was due, is done
    base_hash: str  # of the transformer's weights
    data_hash: str  # of the samples that were trained on
    wandb_id: str | None = None


def state_path(folder: Path, step: int) -> Path:
    """The folder of a step's state in a run's folder."""
    return folder / CHECKPOINTS / state_name(step)


def state_name(step: int) -> str:
    """What the folder of a step's state is called."""
    return f"state_{step:05}"


def states(folder: Path) -> dict[int, Path]:
    """The states of a run by step, the first step first."""
    found = {}
    for path in (folder / CHECKPOINTS).glob("state_*"):
        if (match := STATE.fullmatch(path.name)) and path.is_dir():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def write_state(config: TrainConfig, facts: RunFacts, state: TrainState) -> Path:
    """Write a step's state into the run's folder, in place of one that is there already.

    With ``save_training_state: minimal`` the weights alone: the optimizer starts anew from them.
    Raises WeightsError where the disk is full.
    """
    full = config.checkpoints.save_training_state == "full"
    path = state_path(config.output, facts.step)
    part = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    part.mkdir(parents=True)
    try:
        save_tensors(part / TENSORS, _tensors(state) if full else _weights(state))
        write_text(part / RUN, f"{json.dumps(facts._asdict(), indent=2)}\n")
        write_text(part / CONFIG, config_text(config))
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def config_text(config: TrainConfig) -> str:
    """A configuration as YAML that ``read_config`` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_facts(path: Path) -> RunFacts:
    """What a state says beside its tensors. Raises UserError for a folder that is not whole."""
    try:
        said = json.loads((path / RUN).read_text(encoding="utf-8"))
        return RunFacts(**said)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, f"{RUN}: {error}") from None


def read_state(path: Path, like: TrainState) -> TrainState:
    """The state of a folder, evaluated; ``like`` is the one that a new run would start from.

    Raises UserError as ``check_state``.
    """
    found = check_state(path, like)
    mx.eval(found)
    parameters = {name: found[f"parameters.{name}"] for name in like.parameters}
    if "updates" not in found:
        kept = dict(parameters) if like.average else {}
        return like._replace(parameters=parameters, average=kept)
    first, second = (
        {name: found[f"{part}.{name}"] for name in like.parameters} for part in Moments._fields
    )
    return TrainState(
        parameters=parameters,
        moments=Moments(first, second),
        average={name: found[f"average.{name}"] for name in like.average},
        updates=found["updates"],
        skipped_in_a_row=found["skipped_in_a_row"],
    )


def check_state(path: Path, like: TrainState) -> Tensors:
    """The tensors of a state by name, not yet read.

    Raises UserError for a folder that is not whole, and for weights that are not the run's.
    """
    found = _read(path)
    wanted = _tensors(like) if "updates" in found else _weights(like)
    problems = [f"{key} is missing" for key in sorted(wanted.keys() - found.keys())]
    problems += [f"{key} is unknown" for key in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{key}: {found[key].shape}, {wanted[key].shape} would fit"
        for key in sorted(wanted.keys() & found.keys())
        if found[key].shape != wanted[key].shape
    ]
    if problems:
        problems = [each for each in problems if each.startswith("parameters.")] or problems
        raise UserError(
            f"{path}: what it trained is not what this run trains:\n{summarise(problems, shown=2)}"
        )
    return found


def remove_states(folder: Path, steps: Collection[int]) -> None:
    """Remove the states of some steps, each as a whole: it first gets a name that is no state's."""
    for step, path in states(folder).items():
        if step in steps:
            hidden = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
            path.rename(hidden)
            shutil.rmtree(hidden)


def _tensors(state: TrainState) -> Tensors:
    """All of a state by name."""
    parts = {"parameters": state.parameters, **state.moments._asdict(), "average": state.average}
    found = {f"{part}.{name}": x for part, tensors in parts.items() for name, x in tensors.items()}
    return {**found, "updates": state.updates, "skipped_in_a_row": state.skipped_in_a_row}


def _weights(state: TrainState) -> Tensors:
    return {f"parameters.{name}": x for name, x in state.parameters.items()}


def _read(path: Path) -> Tensors:
    try:
        TensorFile(path / TENSORS)  # checks it
    except WeightsError as error:
        said = str(error).splitlines()[0]
        raise _damaged(path, said.removeprefix(f"{path / TENSORS}: ")) from None
    found: Any = mx.load(str(path / TENSORS))
    return found


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: this state is damaged: {why}.\nRemove it, and --resume takes the one before it"
    )
