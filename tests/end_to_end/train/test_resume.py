"""ltx-train killed at any step and resumed ends as one that was not; asked to stop, it saves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.conftest import run, write_pair

TIMES = {"seconds", "memory_active", "memory_peak"}
STEPS, INTERVAL, NUM_KILLS = 24, 3, 10
CONFIG = f"""\
model: {{model_path: tiny}}
lora: {{rank: 4, alpha: 8, dropout: 0.1}}
training_strategy:
  name: flexible
  video: {{conditions: [{{type: first_frame, probability: 0.5}}]}}
  caption_dropout: 0.2
optimization:
  {{steps: {STEPS}, batch_size: 1, gradient_accumulation_steps: 2, warmup_steps: 3, ema_decay: 0.9}}
checkpoints: {{interval: {INTERVAL}, keep_last_n: 2, best: true}}
validation: {{interval: 4, holdout: 1}}
output_dir: out
"""
# What besides: blocks recomputed for their gradient, a base in integers, all weights trained.
KINDS = {
    "plain": [],
    "recomputed": ["optimization.enable_gradient_checkpointing=true"],
    "compiled": ["optimization.enable_gradient_checkpointing=true"],
    "quantised": ["acceleration.quantization=affine-8bit"],
    "full": ["model.training_mode=full", "lora=null", "optimization.learning_rate=1e-5"],
}
# As on a GPU; on a CPU a run is not compiled, since the compiler takes longer than it saves.
COMPILED = """\
import ltx_train.model
make_step = ltx_train.model.make_step
ltx_train.model.make_step = lambda *args, **how: make_step(*args, **{**how, "compiled": True})
from ltx_train.cli import main; main()
"""


def start(
    folder: Path, data: Path, *words: str, code: str = "from ltx_train.cli import main; main()"
) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lora.yaml").write_text(CONFIG)
    root = f"data.preprocessed_data_root={data}"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--config", "lora.yaml", root, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def rows(folder: Path) -> list[dict]:
    """The rows of a log that are whole, without what no two runs have in common."""
    path = folder / "out/metrics.jsonl"
    *lines, _ = path.read_text().split("\n") if path.exists() else [""]
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def stop_at(process: subprocess.Popen[str], folder: Path, step: int, number: int) -> str:
    """Send a signal as soon as the log has the step; what the process said."""
    while process.poll() is None and not any(row["step"] >= step for row in rows(folder)):
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate()[0]


def weights(folder: Path) -> dict[str, bytes]:
    found = sorted((folder / "out/checkpoints").rglob("*.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def is_a_state(path: Path) -> bool:
    names = {"run.json", "state.safetensors", "training_config.yaml"}
    return {each.name for each in path.iterdir()} == names


@pytest.fixture(scope="module")
def data_root(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_pair(folder / "clips", name)
    run(folder / "clips", folder / "data")
    return folder / "data"


@pytest.mark.slow
def test_killed_twice(tiny, data_root, tmp_path):
    """After the first save, and before the next; what is left is whole."""
    short = ["optimization.steps=6", "optimization.warmup_steps=1"]
    finish(start(tmp_path / "whole", data_root, *short))
    folder = tmp_path / "killed"
    stop_at(start(folder, data_root, *short), folder, 1, signal.SIGKILL)
    stop_at(start(folder, data_root, *short, "--resume"), folder, 5, signal.SIGKILL)
    assert all(is_a_state(path) for path in folder.glob("out/checkpoints/state_*"))
    finish(start(folder, data_root, *short, "--resume"))
    assert rows(folder) == rows(tmp_path / "whole")
    assert weights(folder) == weights(tmp_path / "whole")


def test_asked_to_stop_it_saves_and_says_so(tiny, data_root, tmp_path):
    process = start(tmp_path, data_root)
    said = stop_at(process, tmp_path, 1, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopping: this step is finished and saved; once more, and it ends at once" in said
    (state,) = (tmp_path / "out/checkpoints").glob("state_*")
    step = int(state.name.removeprefix("state_"))
    assert said.splitlines()[-2:] == [
        "ltx-train: stopped",
        f"saved at step {step} in out; --resume goes on",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_steps(tiny, data_root, tmp_path, kind):
    whole, folder, words = tmp_path / "whole", tmp_path / "killed", KINDS[kind]
    how = {"code": COMPILED} if kind == "compiled" else {}
    finish(start(whole, data_root, *words, **how))
    for step in sorted(random.Random(5).sample(range(1, STEPS), NUM_KILLS)):
        again = ["--resume"] if (folder / "out").exists() else []
        process = start(folder, data_root, *words, *again, **how)
        stop_at(process, folder, step, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        saved = [path for path in folder.glob("out/checkpoints/state_*") if is_a_state(path)]
        assert len(saved) == len(list(folder.glob("out/checkpoints/state_*")))
        newest = max((int(path.name[-5:]) for path in saved), default=0)
        assert max(row["step"] for row in rows(folder)) - newest <= INTERVAL
    finish(start(folder, data_root, *words, "--resume", **how))
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)
    assert not list(folder.rglob("*.unfinished"))
