"""Weights & Biases by the real library, offline: what its record has, and what goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from ltx_train.output.layout import made_samples
from ltx_train.output.wandb_log import open_wandb
from ltx_train.report.metrics import step_row, validation_row
from tests.train.report.made_run import step, write_samples

ROOT = Path(__file__).parents[3]
ON = ("wandb.enabled=true", "wandb.project=boats", "wandb.tags=[a, b]")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No login, no network, and nothing of the test before."""
    for name in ("WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "out").mkdir()
    yield
    wandb.teardown()  # where a test has no record to close


def records(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.wandb")}


def test_an_offline_record_has_what_the_run_showed(offline, configured):
    config, said = configured(*ON), []
    write_samples(config.output, [0])
    log = open_wandb(config, run_id=None, say=said.append)
    assert log is not None
    log.row(step_row(step(1, skipped=1), memory_active=1, memory_peak=2))
    log.row(validation_row(step=1, losses={"loss": 1.0, "video": 0.25}, seconds=3.0))
    log.samples(made_samples(config.output), ["a boat"])
    log.close()
    ((name, record),) = records(config.output).items()
    assert name == f"run-{log.id}.wandb"
    for word in ("losses/video", "quarters/audio/", "memory_peak", "validation/losses/video",
                 "samples/2", "a boat", "boats", "optimization"):  # fmt: skip
        assert word.encode() in record, word
    clips = sorted(config.output.glob("wandb/offline-run-*/files/media/videos/**/*.mp4"))
    there = [path.read_bytes() for path in sorted((config.output / "samples").iterdir())]
    assert [path.read_bytes() for path in clips] == there
    (line,) = said
    assert line.startswith("wandb: offline; wandb sync ")

    again = open_wandb(config, run_id=log.id, say=said.append)
    assert again is not None
    again.row(step_row(step(2), memory_active=1, memory_peak=2))
    again.close()
    assert again.id == log.id
    assert set(records(config.output)) == {name}


KILLED = """
import sys
import ltx_models
import psutil
from pathlib import Path
from ltx_train.config import read_config
from ltx_train.output.wandb_log import open_wandb
from ltx_train.report.metrics import step_row
from tests.train.report.made_run import step

log = open_wandb(read_config(Path(sys.argv[1]), sys.argv[2:]), run_id=None, say=print)
(process,) = [one for one in psutil.Process().children() if one.name() == "wandb-core"]
process.kill()
process.wait()
for number in range(1, 4):
    log.row(step_row(step(number), memory_active=1, memory_peak=2))
log.close()
print("training goes on")
"""


@pytest.mark.slow
def test_when_its_process_is_killed_the_record_ends(offline, configured, tmp_path):
    config = configured(*ON)
    words = [tmp_path / "lora.yaml", f"output_dir={config.output}", *ON]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    _, ended, last = done.stdout.splitlines()
    assert ended.startswith("wandb: the record ends here, and training goes on: ")
    assert last == "training goes on"


def test_an_error_stops_the_record_only(offline, configured):
    said: list[str] = []
    log = open_wandb(configured(*ON), run_id=None, say=said.append)
    assert log is not None
    assert log._run is not None
    log._run.finish()  # a second end is fine, another line is not
    for number in (1, 2):
        log.row(step_row(step(number), memory_active=1, memory_peak=2))
    log.close()
    assert len(said) == 2
    assert said[1].startswith("wandb: the record ends here, and training goes on: Run (")


def test_without_a_login_nothing_is_recorded(offline, configured, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    said = []
    assert open_wandb(configured(*ON), run_id=None, say=said.append) is None
    (line,) = said
    assert line.startswith("wandb: nothing is recorded, and training goes on: No API key")


def test_a_run_that_stops_closes_its_record(offline, configured):
    log = open_wandb(configured(*ON), run_id=None, say=print)
    assert log is not None
    with pytest.raises(KeyboardInterrupt), log:
        raise KeyboardInterrupt
    assert wandb.run is None
    (record,) = records(configured().output).values()
    assert record


def test_an_error_of_ours_is_not_hidden(offline, configured):
    log = open_wandb(configured(*ON), run_id=None, say=print)
    assert log is not None
    with pytest.raises(KeyError):
        log.row({"step": 1})
    log.close()


def test_without_being_asked_there_is_none(configured):
    assert open_wandb(configured(), run_id=None, say=print) is None
