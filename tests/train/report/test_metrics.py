"""metrics.jsonl: rows out and in, cut for a run that goes on, and damaged."""

import json
import re

import pytest

from ltx_models.errors import UserError
from ltx_train.report.metrics import append, cut, read, step_row, validation_row
from tests.train.report.made_run import step, write_metrics


def test_rows_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, step_row(step(1), memory_active=5, memory_peak=7))
    append(path, validation_row(step=1, losses={"loss": 2.0, "video": 2.0}, seconds=3.0))
    append(path, validation_row(step=2, losses={}, seconds=3.0, faults=["black"]))
    append(
        path, step_row(step(2, skipped=1, grad_norm=float("inf")), memory_active=5, memory_peak=7)
    )
    found = read(path)
    memory = {"memory_active": 5, "memory_peak": 7}
    assert found.steps[0] == json.loads(json.dumps(step(1)._asdict() | memory))
    assert (found.steps[1]["loss"], found.steps[1]["grad_norm"]) == (None, None)
    assert found.validations == [
        {"step": 1, "loss": 2.0, "losses": {"video": 2.0}, "seconds": 3.0, "faults": []},
        {"step": 2, "loss": None, "losses": {}, "seconds": 3.0, "faults": ["black"]},
    ]
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["step", "validation", "validation", "step"]


def test_a_cut_file_is_as_if_the_run_had_never_stopped(tmp_path):
    write_metrics(tmp_path / "whole.jsonl", steps=120)
    write_metrics(tmp_path / "cut.jsonl", steps=130)
    with (tmp_path / "cut.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # killed while it wrote
    assert len(read(tmp_path / "cut.jsonl").steps) == 130
    cut(tmp_path / "cut.jsonl", step=100)
    assert len(read(tmp_path / "cut.jsonl").validations) == 3
    for number in range(101, 121):
        row = step_row(step(number), memory_active=14 * 2**30, memory_peak=21 * 2**30)
        append(tmp_path / "cut.jsonl", row)
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_validation_that_is_to_come_again_is_cut_off(tmp_path):
    path = tmp_path / "m.jsonl"
    for number in (1, 2):
        append(path, step_row(step(number), memory_active=1, memory_peak=1))
        append(path, validation_row(step=number, losses={"loss": 2.0}, seconds=3.0))
    cut(path, step=2, is_validated=False)
    found = read(path)
    assert ([row["step"] for row in found.steps], len(found.validations)) == ([1, 2], 1)


def test_without_a_file_there_are_no_rows(tmp_path):
    assert read(tmp_path / "metrics.jsonl") == ([], [])


@pytest.mark.parametrize("line", ["x", "[]", '{"kind": "other"}', '{"step": 1}'])
def test_a_damaged_file(tmp_path, line):
    write_metrics(tmp_path / "m.jsonl", steps=1)
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write(f"{line}\n")
    message = f"m.jsonl: line 3 is no row of a run's metrics: {line}"
    with pytest.raises(UserError, match=f"{re.escape(message)}$"):
        read(tmp_path / "m.jsonl")
