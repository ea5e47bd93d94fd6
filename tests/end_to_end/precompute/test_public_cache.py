"""A cache in the public trainer's layout, as ``.pt`` files, trained on by the real command."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ltx_models.lora.files import read_lora
from tests.train.data.torch_writer import whole, write_archive, write_pt

TRAIN = Path(sys.executable).with_name("ltx-train")
CONFIG = """
model: {model_path: tiny, training_mode: lora}
lora: {rank: 4, alpha: 4, target_modules: [attn1.to_q, attn2.to_v]}
training_strategy:
  name: flexible
  video: {is_generated: true, latents_dir: latents}
  audio: {is_generated: true, latents_dir: audio_latents}
optimization: {learning_rate: 1e-4, steps: 2, batch_size: 1}
data: {preprocessed_data_root: clips}
output_dir: out
"""


def bf16(values: np.ndarray):
    return lambda key: whole(key, values, kind="BFloat16")


def put(path: Path, **values) -> None:
    made = {k: v(str(i)) if callable(v) else v for i, (k, v) in enumerate(values.items())}
    write_pt(path, made)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two clips of other sizes in ``clips/.precomputed``, text padded on the left to 1024."""
    rng = np.random.default_rng(0)
    for name, frames in (("a", 2), ("sub/b", 1)):
        root = tmp_path / "clips/.precomputed"
        grid = {"num_frames": frames, "height": 2, "width": 2}
        latents = bf16(rng.standard_normal((16, frames, 2, 2)))
        put(root / f"latents/{name}.pt", latents=latents, **grid, fps=24.0)
        sound = {"num_time_steps": 9, "frequency_bins": 16, "duration": 0.36}
        latents = bf16(rng.standard_normal((2, 9, 16)))
        put(root / f"audio_latents/{name}.pt", latents=latents, **sound)
        put(
            root / f"conditions/{name}.pt",
            video_prompt_embeds=bf16(rng.standard_normal((1024, 64))),
            prompt_attention_mask=np.arange(1024) >= 1000,
            audio_prompt_embeds=bf16(rng.standard_normal((1024, 32))),
        )
    (tmp_path / "lora.yaml").write_text(CONFIG)
    return tmp_path


def train(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TRAIN, "--config", "lora.yaml"], cwd=folder, capture_output=True, text=True
    )


def test_a_public_cache_is_trained_on(tiny, folder):
    done = train(folder)
    assert done.returncode == 0, done.stderr
    log = (folder / "out/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    adapter = read_lora(folder / "out/checkpoints/lora_weights_step_00002.safetensors")
    assert len(adapter.entries) == 6 * 2


class Malice:
    """Unpickled by Python itself, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch made",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_cache_is_one_line_and_runs_nothing(tiny, folder, protocol):
    file = "clips/.precomputed/conditions/sub/b.pt"
    write_archive(folder / file, pickle.dumps({"video_prompt_embeds": Malice()}, protocol))
    done = train(folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{file}: its pickle asks for {os.system.__module__}.system; only tensors" in line
    assert "nothing of it was run" in line
    assert not [*folder.rglob("made"), *folder.glob("out")]
