"""metrics.jsonl: what a run showed, one JSON object a line, in the order in which it came to be.

``{"kind": "step", ...}``: the fields of ``trainer.StepMetrics``, and ``memory_active`` and
``memory_peak``, the bytes that MLX held after the step and at most since the one before.

``{"kind": "validation", "step", "loss", "losses", "seconds", "faults"}``: after a step, or at 0
before the first, the loss of the samples that are held back, as training weighs it and of each
stream; null and empty where none are. ``faults`` are lines on the clips that were made.

A number that is not finite is null. The validation of a step is written before its state, so that
a run that goes on from a state has all rows up to its step, and ``cut`` takes off all others.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltx_models.errors import UserError
from ltx_models.files import write_text
from ltx_train.trainer import StepMetrics

STEP, VALIDATION = "step", "validation"
Row = dict[str, Any]


class Metrics(NamedTuple):
    """The rows of a file by their kind, without it."""

    steps: list[Row]
    validations: list[Row]


def step_row(metrics: StepMetrics, *, memory_active: int, memory_peak: int) -> Row:
    """The row of a step; memory is in bytes."""
    memory = {"memory_active": memory_active, "memory_peak": memory_peak}
    return {"kind": STEP, **metrics._asdict(), **memory}


def validation_row(
    *, step: int, losses: Mapping[str, float], seconds: float, faults: Sequence[str] = ()
) -> Row:
    """The row of a validation after a step; ``losses`` as ``heldout_loss`` gives them, or none."""
    by_stream = dict(losses)
    loss = by_stream.pop("loss", None)
    about = {"loss": loss, "losses": by_stream, "seconds": seconds, "faults": list(faults)}
    return {"kind": VALIDATION, "step": step, **about}


def append(path: Path, row: Row) -> None:
    """Add a row at the end of the file; a run that is killed after this has it."""
    line = f"{json.dumps(_finite(row), allow_nan=False)}\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read(path: Path) -> Metrics:
    """All rows; a last one that was not written whole is passed over, as is a missing file.

    Raises UserError for a line that is no row.
    """
    found: dict[str, list[Row]] = {STEP: [], VALIDATION: []}
    for row in _rows(path):
        found[row.pop("kind")].append(row)
    return Metrics(found[STEP], found[VALIDATION])


def cut(path: Path, *, step: int, is_validated: bool = True) -> None:
    """Leave only what there was after a step, for a run that goes on from there.

    The file is then as if that run had never been stopped; unless ``is_validated``, the validation
    of this step is still to come. Raises UserError as ``read``.
    """
    last = {STEP: step, VALIDATION: step if is_validated else step - 1}
    kept = [row for row in _rows(path) if row["step"] <= last[row["kind"]]]
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in kept))


def _rows(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    *lines, _unfinished = text.split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or row.get("kind") not in (STEP, VALIDATION):
            raise UserError(f"{path}: line {number} is no row of a run's metrics: {line[:60]}")
        rows.append(row)
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
