"""The whole loop by the real commands: clips and captions, an adapter, another clip."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    log = (folder / "out/metrics.jsonl").read_text().splitlines()
    assert len(log) == 20
    assert all(0 < json.loads(line)["loss"] < 100 for line in log)
    adapter = read_lora(folder / "out/checkpoints/lora_weights_step_00020.safetensors")
    assert {entry.rank for entry in adapter.entries.values()} == {8}


def test_adapter_makes_another_clip(folder, generate):
    """And the same one each time; at strength 0 the base's."""

    def clip(name: str, *words: str) -> np.ndarray:
        size = ("--height", "64", "--width", "64", "--num-frames", "9", "-o", name)
        generate(folder, "--one-stage", "--prompt", "a lighthouse, waves", *size, *words)
        return read_clip(folder / name).frames

    base, adapted = clip("base.mp4"), clip("adapted.mp4", "--lora", "./out")
    assert np.abs(base.astype(int) - adapted).mean() > 1
    assert np.array_equal(adapted, clip("again.mp4", "--lora", "./out"))
    assert np.array_equal(base, clip("none.mp4", "--lora", "./out", "0"))
