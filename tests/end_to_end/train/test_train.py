"""The whole loop by the real commands: clips and captions, an adapter, another clip."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_models.lora.files import read_lora
from tests.end_to_end.conftest import read_clip
from tests.train.conftest import write_pair

CONFIG = Path("configs/train/t2v_lora.yaml").resolve()
CHANGES = (
    "model.model_path=tiny",
    "lora.rank=8",
    "lora.alpha=8",
    "optimization.steps=20",
    "optimization.learning_rate=1e-2",
    "training_strategy.audio=null",
    "validation.generate_audio=false",
    "validation.video_dims=[64, 64, 9]",
    "validation.inference_steps=2",
    "validation.interval=10",
    "checkpoints.interval=8",
    "output_dir=out",
)


def command(name: str, folder: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    """Two clips, what ltx-precompute makes of them, and a run of ltx-train in ``out``."""
    folder = tmp_path_factory.mktemp("train")
    for name in ("waves.mp4", "boats/red.mp4"):
        write_pair(folder / "clips", name, caption=f"a lighthouse, {name}")
    buckets = ("--resolution-buckets", "64x64x9")
    words = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data", *buckets)
    said = command("ltx-precompute", folder, *words)
    assert said == "data: 2 done, 0 skipped, 0 failed\n"
    said = command("ltx-train", folder, "--config", CONFIG, *CHANGES)
    assert said.startswith("out/checkpoints/lora_weights_step_00020.safetensors: 48 layers")
    return folder


def test_run_leaves_a_log_and_an_adapter(folder):
    lines = (folder / "out/metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, 21))
    assert all(0 < row["loss"] < 100 for row in steps)
    adapter = read_lora(folder / "out/checkpoints/lora_weights_step_00020.safetensors")
    assert {entry.rank for entry in adapter.entries.values()} == {8}


def test_run_leaves_what_it_is_known_by(folder):
    """Adapters and states of every 8 steps, clips from step 0 on, the page, the configuration."""
    out = folder / "out"
    assert {path.name for path in out.iterdir()} == {
        "checkpoints",
        "metrics.jsonl",
        "report.html",
        "samples",
        "training_config.yaml",
    }
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        *(f"lora_weights_step_{step:05}.safetensors" for step in (8, 16, 20)),
        *(f"state_{step:05}" for step in (8, 16, 20)),
    ]
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        f"step_{step:06}_{number}.mp4" for step in (0, 10, 20) for number in (1, 2)
    ]


def test_a_dry_run_says_what_will_be_done(folder):
    """On stdout, and nothing is written; the folder of the other run is refused."""
    there = sorted(folder.rglob("*"))
    words = (*CHANGES[:-1], "output_dir=other", "--dry-run")
    lines = command("ltx-train", folder, "--config", CONFIG, *words).splitlines()
    starts = [line.split(":")[0] for line in lines if line[0] != " "]
    assert starts[:7] == ["base", "data", "trained", "schedule", "saved", "validation", "memory"]
    assert lines[1] == "data: 2 samples: 2 of 64x64x9"
    assert "  24 transformer_blocks.*.attn1: to_k, to_out.0, to_q, to_v" in lines
    assert sorted(folder.rglob("*")) == there


def test_adapter_makes_another_clip(folder, generate, monkeypatch):
    """And the same one each time; at strength 0 the base's."""
    monkeypatch.chdir(folder)
    size = ("--height", "64", "--width", "64", "--num-frames", "9")
    words = ("--one-stage", "--prompt", "a lighthouse, waves", *size)

    def clip(name: str, *more: str) -> np.ndarray:
        main(["--model", "tiny", *words, "-o", name, *more])
        return read_clip(folder / name).frames

    base, adapted = clip("base.mp4"), clip("adapted.mp4", "--lora", "./out")
    assert np.abs(base.astype(int) - adapted).mean() > 1
    generate(folder, *words, "-o", "again.mp4", "--lora", "./out")
    assert np.array_equal(adapted, read_clip(folder / "again.mp4").frames)
    assert np.array_equal(base, clip("none.mp4", "--lora", "./out", "0"))
