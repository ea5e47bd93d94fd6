"""What a run shows, at Weights & Biases too; training never depends on it.

With WANDB_MODE=offline the record stays in the run's folder, for ``wandb sync``. An error of
wandb's own, as of its service or its login, ends the record with one line; any other is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import wandb

from ltx_train.config import TrainConfig
from ltx_train.output.layout import MadeSample
from ltx_train.report.metrics import VALIDATION, Row

Say = Callable[[str], None]
MEDIA: Mapping[str, Callable[..., Any]] = {
    ".mp4": lambda path, caption: wandb.Video(path, caption=caption, format="mp4"),
    ".png": lambda path, caption: wandb.Image(path, caption=caption),
    ".wav": lambda path, caption: wandb.Audio(path, caption=caption),
}


class WandbLog:
    """A record that is open; after an error all its functions do nothing."""

    def __init__(self, run: wandb.Run, say: Say):
        self._run: wandb.Run | None = run
        self._say = say
        self.id = run.id  # to go on with the same record

    def row(self, row: Row) -> None:
        """Record a row of metrics.jsonl; what in it is null is left out."""
        self._guarded(lambda run: run.log(_flat(row)))

    def samples(self, made: Sequence[MadeSample], prompts: Sequence[str]) -> None:
        """Record what was made at one step, each under the number of its prompt."""
        names = dict(enumerate(prompts, 1))

        def log(run: wandb.Run) -> None:
            media = {
                f"samples/{one.number}": MEDIA[one.path.suffix](
                    str(one.path), caption=names.get(one.number, "")
                )
                for one in made
            }
            run.log({"step": made[0].step, **media})

        if made:
            self._guarded(log)

    def close(self) -> None:
        """End the record; waits until what it has is written or sent."""
        self._guarded(lambda run: run.finish())
        self._run = None

    def _guarded(self, call: Callable[[wandb.Run], None]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except wandb.Error as error:
            self._run = None
            self._say(_line("the record ends here", error))


def open_wandb(config: TrainConfig, *, run_id: str | None, say: Say) -> WandbLog | None:
    """Begin a record, or go on with that of ``run_id``, where the configuration asks for one.

    None where it does not, or where it cannot be had; then a line says why.
    """
    section = config.wandb
    if not section.enabled:
        return None
    try:
        run = wandb.init(
            project=section.project,
            entity=section.entity,
            tags=list(section.tags),
            name=config.output.resolve().name,
            dir=str(config.output),
            id=run_id,
            resume="allow",
            config=config.model_dump(mode="json"),
            # Its lines would go between those of the progress.
            settings=wandb.Settings(silent=True, console="off"),
        )
        # Ours, since a run that was killed goes on from an earlier step, which wandb's refuses.
        run.define_metric("*", step_metric="step")
    except wandb.Error as error:
        say(_line("nothing is recorded", error))
        return None
    say(f"wandb: {run.url or f'offline; wandb sync {run.dir}'}")
    return WandbLog(run, say)


def _line(what: str, error: wandb.Error) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"wandb: {what}, and training goes on: {reason}"


def _flat(row: Row) -> dict[str, float]:
    """A row's numbers by name; those of a validation are under ``validation/``."""
    is_validation = row["kind"] == VALIDATION
    found: dict[str, float] = {}
    for key, value in row.items():
        _add(found, f"validation/{key}" if is_validation and key != "step" else key, value)
    return found


def _add(found: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _add(found, f"{name}/{key}", part)
    elif isinstance(value, list):
        for number, part in enumerate(value, 1):
            _add(found, f"{name}/{number}", part)
    elif isinstance(value, int | float):
        found[name] = value
