"""Which of a run's steps is its best."""

from ltx_train.report.metrics import append, validation_row
from ltx_train.runs.files import best_step


def test_the_base_is_no_step(tmp_path):
    """There is no adapter of it that could be kept."""
    path = tmp_path / "metrics.jsonl"
    assert best_step(tmp_path) is None
    append(path, validation_row(step=0, losses={"loss": 1.0}, seconds=1.0))
    assert best_step(tmp_path) is None
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.0), (40, float("nan"))):
        append(path, validation_row(step=step, losses={"loss": loss}, seconds=1.0))
    assert best_step(tmp_path) == 20
