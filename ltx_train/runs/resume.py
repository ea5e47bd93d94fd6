"""Whether a run's folder can be written to, and from where a run in it goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.files import check_writable, remove_unfinished
from ltx_train.config import TrainConfig, read_run
from ltx_train.output.layout import CONFIG, METRICS, WEIGHTS, made_samples, weight_files
from ltx_train.report.metrics import cut
from ltx_train.runs.state import (
    RunFacts,
    read_facts,
    remove_states,
    state_name,
    states,
)

# What may change without the numbers changing: where things go, what is kept, what is shown.
NEUTRAL = (
    "output_dir",
    "checkpoints.",
    "hub.",
    "wandb.",
    "validation.",
    "model.text_encoder_path",
    "model.load_checkpoint",
)
NOT_NEUTRAL = ("validation.holdout",)


class Origin(NamedTuple):
    """The state that a run goes on from."""

    path: Path
    facts: RunFacts


def check_output(config: TrainConfig, *, resume: bool) -> None:
    """Raise UserError unless the run can be written to its folder."""
    folder = config.output
    check_writable(folder, name="output_dir")
    saved = weight_files(folder)
    steps = {*states(folder), *(step for step, _ in saved)}
    if steps and not resume:
        raise UserError(
            f"output_dir {folder}: there is a run in it already, saved at step {max(steps)}.\n"
            "--resume goes on with it; or name another folder"
        )
    if resume and not (folder / CONFIG).is_file():
        raise UserError(f"--resume: there is no run in output_dir {folder}")
    if resume and saved and not states(folder):
        raise UserError(
            f"--resume: {folder} has adapters but no state: it was removed, or "
            "checkpoints.save_training_state was off.\n"
            "Start a run in another folder with model.load_checkpoint="
            f"{saved[-1][1]}"
        )


def find_origin(config: TrainConfig) -> Origin | None:
    """The newest state of the run in the output folder; None where none was saved yet."""
    found = states(config.output)
    if not found:
        return None
    path = found[max(found)]
    return Origin(path, read_facts(path))


def origin_beside(weights: Path) -> Origin | None:
    """The state that was written with a file of weights, where it is still there."""
    match = WEIGHTS.fullmatch(weights.name)
    path = weights.with_name(state_name(int(match[1]))) if match else None
    return Origin(path, read_facts(path)) if path is not None and path.is_dir() else None


def check_unchanged(
    origin: Origin, config: TrainConfig, *, base_hash: str, data_hash: str, force: bool
) -> list[str]:
    """What is not as it was when the state was written, a line each.

    Raises UserError for a change by which other numbers would come out, unless ``force``, and for
    a state that has all steps of the run behind it and more.
    """
    step, steps = origin.facts.step, config.optimization.steps
    if step > steps:
        raise UserError(f"optimization.steps {steps}: {origin.path} has more behind it already")
    old = read_run(origin.path / CONFIG, debug=True).config
    told = _changes(old, config)
    heavy = [line for key, line in told.items() if not _is_neutral(key)]
    facts = origin.facts
    pairs = {"the base": (facts.base_hash, base_hash), "the data": (facts.data_hash, data_hash)}
    heavy += [f"{name}: other ones than before" for name, (a, b) in pairs.items() if a != b]
    if heavy and not force:
        raise UserError(
            f"--resume: since step {step} this has changed:\n{summarise(heavy, shown=2)}\n"
            "--force goes on with it; otherwise put it back"
        )
    light = [line for key, line in told.items() if _is_neutral(key)]
    return [f"changed since step {step}: {line}" for line in [*heavy, *light]]


def cut_back(folder: Path, step: int, *, is_validated: bool) -> None:
    """Take off what a run left behind a step, so that its folder is as it was after that step.

    ``is_validated`` says whether that step's validation stays, if there was one.
    """
    remove_unfinished(folder)
    cut(folder / METRICS, step=step, is_validated=is_validated)
    later = [path for number, path in weight_files(folder) if number > step]
    later += [sample.path for sample in made_samples(folder) if sample.step > step]
    for path in later:
        path.unlink()
    remove_states(folder, [number for number in states(folder) if number > step])


def _changes(old: TrainConfig, new: TrainConfig) -> dict[str, str]:
    """A line for each key that differs, by its path."""
    before, after = (_flat(each.model_dump(mode="json")) for each in (old, new))
    keys = [*before, *(key for key in after if key not in before)]
    absent = "nothing"
    return {
        key: f"{key}: {before.get(key, absent)} -> {after.get(key, absent)}"
        for key in keys
        if before.get(key, absent) != after.get(key, absent)
    }


def _flat(data: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flat(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return found


def _is_neutral(key: str) -> bool:
    return key.startswith(NEUTRAL) and not key.startswith(NOT_NEUTRAL)
