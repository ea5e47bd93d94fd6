"""report.html: how a run goes, and what its model makes, in one file that opens offline.

It is made from what lies in the run's folder, so that it can be written after any step.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel

from ltx_models.files import write_text
from ltx_train.config import TrainConfig
from ltx_train.output.facts import Facts
from ltx_train.output.layout import METRICS, REPORT, made_samples
from ltx_train.output.metadata import lora_of, streams_of
from ltx_train.report import metrics
from ltx_train.report.chart import Series, chart
from ltx_train.report.clips import shown_samples
from ltx_train.report.metrics import Metrics, Row
from ltx_train.report.page import (
    Html,
    Part,
    facts,
    find_box,
    note,
    number,
    page,
    section,
    table,
    tag,
)
from ltx_train.report.samples import sample_grid

NAMES = {"video": "picture", "audio": "sound"}
QUARTERS = ("below 0.25", "0.25 to 0.5", "0.5 to 0.75", "above 0.75")
LAST = 100  # steps in the means that are said first
MOST_ROWS = 500  # of the table of clips
GB = 1e9
UNTOLD = 0.05  # share of the adapted layers that may change nothing without a remark


def write_report(
    folder: Path, *, config: TrainConfig, facts: Facts, notes: Sequence[str] = ()
) -> Path:
    """Write a run's page anew from its folder; the path. ``notes`` are lines for a person.

    Raises UserError for a damaged metrics.jsonl.
    """
    found = metrics.read(folder / METRICS)
    parts = [
        _summary(found, config),
        _samples(folder, config),
        _curves(found, config),
        _notes(found, facts, notes),
        _data(facts),
        _captions(facts),
        _settings(config),
    ]
    base = f"{facts.base_file}, LTX {facts.base_version}"
    head = tag("p", f"{_kind(config)} of {base}. {folder}", class_="soft")
    path = folder / REPORT
    write_text(path, page(f"Training: {folder.resolve().name}", head, *parts))
    return path


def _kind(config: TrainConfig) -> str:
    lora = lora_of(config)
    return "All weights" if lora is None else f"LoRA of rank {lora.rank}, alpha {lora.alpha:g},"


def _summary(found: Metrics, config: TrainConfig) -> Html:
    """The numbers that are looked for first."""
    steps, total = found.steps, config.optimization.steps
    done = steps[-1]["step"] if steps else 0
    last = steps[-LAST:]
    pairs: list[tuple[str, Part]] = [("step", f"{done:,} of {total:,}")]
    if losses := _finite(row["loss"] for row in last):
        pairs.append((f"loss, last {len(last)} steps", fmean(losses)))
    if held := [row for row in found.validations if row["loss"] is not None]:
        best = min(held, key=lambda row: row["loss"])
        pairs += [
            ("held-out loss", held[-1]["loss"]),
            (f"its best, at step {best['step']:,}", best["loss"]),
        ]
    if last:
        seconds = fmean(row["seconds"] for row in last)
        pairs += [("seconds a step", seconds), ("to go", _span((total - done) * seconds))]
        pairs.append(("peak memory", f"{number(max(map(_peak, steps)))} GB"))
    pairs.append(("skipped steps", len(_skipped(steps))))
    return facts(pairs)


def _curves(found: Metrics, config: TrainConfig) -> Html:
    steps = found.steps
    names = [name for name, stream in streams_of(config).items() if stream.is_generated]
    by_stream = [_series(NAMES[name], steps, "losses", name) for name in names]
    held = [_series(NAMES[name], found.validations, "losses", name) for name in names]
    if len(names) > 1:
        held.append(_series("together, weighted", found.validations, "loss"))
    quarters = [
        chart(
            f"Loss of the {NAMES[name]} by noise level",
            [_series(said, steps, "quarters", name, q) for q, said in enumerate(QUARTERS)],
            smooth=True,
        )
        for name in names
    ]
    drawn = [
        chart("Loss", by_stream, smooth=True),
        chart("Loss of the samples that are held back", held),
        *quarters,
        chart("Learning rate", [_series("rate", steps, "learning_rate")]),
        chart(
            "Norm of the gradient, before clipping",
            [_series("gradient", steps, "grad_norm")],
            log=True,
            smooth=True,
        ),
        *_adapter_charts(steps, config),
        chart("Seconds a step", [_series("seconds", steps, "seconds")], smooth=True),
        chart(
            "Memory in GB",
            [_memory("held", steps, "memory_active"), _memory("peak", steps, "memory_peak")],
        ),
    ]
    return section("Curves", tag("div", *drawn, class_="charts"))


def _adapter_charts(steps: Sequence[Row], config: TrainConfig) -> list[Html]:
    if lora_of(config) is None:
        return []
    return [
        chart("Norm of the adapter: all lora_B", [_series("lora_B", steps, "adapter_norm")]),
        chart("Share of the layers that change nothing", [_series("dead", steps, "dead_share")]),
    ]


def _samples(folder: Path, config: TrainConfig) -> Html:
    prompts = [sample.prompt for sample in config.validation.samples]
    shown = shown_samples(made_samples(folder), prompts, folder=folder)
    parts: list[Part] = [sample_grid(shown.samples)]
    if shown.linked:
        listed = ", ".join(f"{step:,}" for step in shown.linked)
        parts.insert(0, note(f"Not in this file, only linked, for their size: step {listed}."))
    return section("Samples", *parts)


def _notes(found: Metrics, facts: Facts, notes: Sequence[str]) -> Html:
    lines = [*notes, *facts.notes, *_faults(found), *_remarks(found.steps)]
    items = [tag("li", line) for line in dict.fromkeys(lines)]  # each once
    return section("Notes", tag("ul", *items) if items else note("None."))


def _faults(found: Metrics) -> list[str]:
    return [
        f"Step {row['step']:,}: {fault}" for row in found.validations for fault in row["faults"]
    ]


def _remarks(steps: Sequence[Row]) -> Iterator[str]:
    """What the numbers give cause to say."""
    if skipped := _skipped(steps):
        listed = ", ".join(f"{step:,}" for step in skipped[:20])
        more = f" and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        yield f"Skipped, as loss or gradient were not finite: step {listed}{more}."
    if steps and steps[-1]["dead_share"] > UNTOLD:
        yield (
            f"{steps[-1]['dead_share']:.0%} of the adapted layers still change nothing: what they "
            "compute reaches no loss, or they have had no step yet."
        )


def _data(about: Facts) -> Html:
    texts = [caption for _, caption in about.captions if caption]
    pairs: list[tuple[str, Part]] = [
        ("samples", len(about.captions)),
        ("held back", len(about.held_out)),
        ("different captions", len(set(texts))),
    ]
    if about.trigger:
        pairs += [("trigger", about.trigger), ("captions with it", about.num_with_trigger)]
    if about.reference != (1, 1):
        spatial, temporal = about.reference
        pairs.append(("references", f"1/{spatial} in space, 1/{temporal} in time"))
    sizes = table(["size", "samples"], [[size, count] for size, count in about.sizes.items()])
    return section("Data", facts(pairs), sizes)


def _captions(about: Facts) -> Html:
    held = set(about.held_out)
    rows: list[list[Part]] = [
        [name, "held back" if name in held else "trained on", caption or "not known"]
        for name, caption in about.captions
    ]
    said = note(f"The first {MOST_ROWS} of {len(rows)}.") if len(rows) > MOST_ROWS else None
    clips = table(["sample", "used", "caption"], rows[:MOST_ROWS])
    box = find_box("a sample or a word of its caption")
    return section("Captions", said, box, clips)


def _settings(config: TrainConfig) -> Html:
    """Every key, those that are not at their default first."""
    changed = {path: value for path, value in _flat(config) if value != _default(config, path)}
    rows = [[path, _said(value)] for path, value in changed.items()]
    others = [[path, _said(value)] for path, value in _flat(config) if path not in changed]
    return section(
        "Configuration",
        table(["key", "value"], rows),
        tag(
            "details", tag("summary", "All that is at its default"), table(["key", "value"], others)
        ),
    )


def _flat(model: BaseModel, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key by its dotted path; a list of sections by their numbers."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{at}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, part in enumerate(value):
                yield from _flat(part, f"{at}{name}.{index}.")
        else:
            yield f"{at}{name}", value


def _default(model: BaseModel, path: str) -> Any:
    """What the schema has where a file says nothing; of what it has to say, nothing."""
    name, _, rest = path.partition(".")
    if rest:
        value = getattr(model, name)
        if isinstance(value, tuple):
            index, _, rest = rest.partition(".")
            value = value[int(index)]
        return _default(value, rest)
    field = type(model).model_fields[name]
    return ... if field.is_required() else field.get_default(call_default_factory=True)


def _said(value: Any) -> str:
    if isinstance(value, BaseModel | Mapping | tuple | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "none" if value is None else str(value)


def _series(name: str, rows: Sequence[Row], *keys: str | int) -> Series:
    """A value of each row, by its keys; rows that have none are left out."""
    pairs = [(row["step"], _at(row, *keys)) for row in rows]
    pairs = [(step, value) for step, value in pairs if value is not None]
    return Series(name, [step for step, _ in pairs], [value for _, value in pairs])


def _memory(name: str, rows: Sequence[Row], key: str) -> Series:
    series = _series(name, rows, key)
    return series._replace(values=[value / GB for value in series.values])


def _at(value: Any, *keys: str | int) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list):
            value = value[int(key)]
    return value


def _skipped(steps: Sequence[Row]) -> list[int]:
    return [row["step"] for row in steps if row["skipped_in_a_row"]]


def _peak(row: Row) -> float:
    return row["memory_peak"] / GB


def _finite(values: Iterator[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _span(seconds: float) -> str:
    """A time in its two largest units."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
