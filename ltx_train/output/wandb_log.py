"""What a run shows, at Weights & Biases too; training never depends on it.

With WANDB_MODE=offline the record stays in the run's folder, for ``wandb sync``. An error of
wandb's own, as of its service, its process or a login, ends the record with one line; any other is
ours.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ltx_train.config import TrainConfig
from ltx_train.output.layout import MadeSample
from ltx_train.report.metrics import VALIDATION, Row

if TYPE_CHECKING:
    import wandb

Say = Callable[[str], None]


class WandbLog:
    """A record that is open; after an error all its functions do nothing.

    At the end of a ``with`` it is closed, and says whether that came by an error.
    """

    def __init__(self, run: "wandb.Run", say: Say):
        self._run: wandb.Run | None = run
        self._say = say
        self.id = run.id  # to go on with the same record

    def row(self, row: Row) -> None:
        """Record a row of metrics.jsonl; what in it is null is left out."""
        self._guarded(lambda run: run.log(_flat(row)))

    def samples(self, made: Sequence[MadeSample], prompts: Sequence[str]) -> None:
        """Record what was made at one step, each under the number of its prompt."""
        names = dict(enumerate(prompts, 1))

        def log(run: "wandb.Run") -> None:
            media = {
                f"samples/{one.number}": _media(one.path, names.get(one.number, "")) for one in made
            }
            run.log({"step": made[0].step, **media})

        if made:
            self._guarded(log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it, as failed where an error came."""
        self.close(failed=kind is not None)

    def close(self, *, failed: bool = False) -> None:
        """End the record; waits until what it has is written or sent."""
        import wandb  # noqa: PLC0415

        self._guarded(lambda run: run.finish(exit_code=int(failed)))
        is_open, self._run = self._run is not None, None
        try:
            wandb.teardown()  # which waits; the end of a run does not wait for its last lines
        except (wandb.Error, ConnectionError) as error:
            if is_open:
                self._say(_line("the end of the record may be missing", error))

    def _guarded(self, call: "Callable[[wandb.Run], None]") -> None:
        import wandb  # noqa: PLC0415

        if self._run is None:
            return
        try:
            call(self._run)
        except (wandb.Error, ConnectionError) as error:  # the other is its process's, when it dies
            self._run = None
            self._say(_line("the record ends here", error))


def open_wandb(config: TrainConfig, *, run_id: str | None, say: Say) -> WandbLog | None:
    """Begin a record, or go on with that of ``run_id``, where the configuration asks for one.

    None where it does not, or where it cannot be had; then a line says why.
    """
    section = config.wandb
    if not section.enabled:
        return None
    import wandb  # noqa: PLC0415

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
    except (wandb.Error, ConnectionError) as error:
        say(_line("nothing is recorded", error))
        return None
    place = f"offline; wandb sync {Path(run.dir).parent}" if run.offline else run.url
    say(f"wandb: {place}")
    return WandbLog(run, say)


def _media(path: Path, caption: str) -> Any:
    import wandb  # noqa: PLC0415

    if path.suffix == ".mp4":
        return wandb.Video(str(path), caption=caption, format="mp4")
    kind = wandb.Image if path.suffix == ".png" else wandb.Audio
    return kind(str(path), caption=caption)


def _line(what: str, error: Exception) -> str:
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
