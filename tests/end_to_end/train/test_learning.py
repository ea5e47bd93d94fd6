"""Training teaches: clips of a film, by the real commands, on ``tiny``.

A model that always says the same can at best say the mean of what it has to predict, noise - x_0.
The loss of that, E |noise - x_0 - mean|^2, is computed here from the latents on disk, with the
mean of the very clips that are measured, for each channel: no constant can do better on them.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.transformer.patchify import patchify_audio, patchify_video
from ltx_train.config import read_config
from ltx_train.data.dataset import open_dataset
from ltx_train.validation.heldout import hold_out
from tests.end_to_end.conftest import read_clip
from tests.end_to_end.film import read_film, write_cut

CONFIG = Path(__file__).parents[3] / "configs" / "train" / "t2v_lora.yaml"
BUCKETS = ("--resolution-buckets", "64x64x9")
STARTS, TOPS, LEFTS = (0, 16), (0, 82), (0, 80, 160)
FOLDERS = {"video": "latents", "audio": "audio_latents"}
ATTENTION_AND_FF = "[to_k,to_q,to_v,to_out.0,net.0.proj,net.2]"
# The stand-in's heads are as random as its blocks, and a sound is as wide as its stream.
EVERY_LAYER = (
    "[to_k,to_q,to_v,to_out.0,to_gate_logits,net.0.proj,net.2,linear,patchify_proj,"
    "audio_patchify_proj,proj_out,audio_proj_out]"
)
COMMON = (
    "model.model_path=tiny",
    "lora.rank=32",
    "optimization.learning_rate=5e-3",
    "optimization.batch_size=4",
    "optimization.enable_gradient_checkpointing=false",
    "checkpoints.interval=null",
    "validation.samples=[]",
)
PICTURE = ("training_strategy.audio=null", f"lora.target_modules={ATTENTION_AND_FF}")
BOTH = (f"lora.target_modules={EVERY_LAYER}",)


def command(name: str, folder: Path, *words: str | Path) -> str:
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def precompute(folder: Path) -> None:
    words = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data", "--with-audio")
    said = command("ltx-precompute", folder, *words, *BUCKETS)
    assert "0 skipped, 0 failed" in said


def train(folder: Path, output: str, *overrides: str) -> dict[int, dict[str, float]]:
    """A run into ``output``; by step the held-out loss of each stream."""
    command("ltx-train", folder, "--config", CONFIG, f"output_dir={output}", *COMMON, *overrides)
    rows = map(json.loads, (folder / output / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["losses"] for row in rows if row["kind"] == "validation"}


def held_names(folder: Path, *overrides: str) -> list[str]:
    data = f"data.preprocessed_data_root={folder / 'data'}"
    config = read_config(CONFIG, [*COMMON, data, *overrides])
    dataset = open_dataset(folder / "data", {"latents": "video"})
    _, held = hold_out(dataset, config)
    return [sample.name for sample in held]


def constant_loss(folder: Path, stream: str, names: list[str]) -> float:
    """The lowest loss on these clips of any prediction that is one number a channel."""
    paths = [folder / "data" / FOLDERS[stream] / f"{name}.safetensors" for name in names]
    latents = mx.stack([mx.load(str(path))["latents"] for path in paths]).astype(mx.float32)
    tokens = (patchify_video if stream == "video" else patchify_audio)(latents)
    return 1 + float(tokens.var(axis=(0, 1)).mean())  # 1 is the noise's own


@pytest.fixture(scope="module")
def film(tiny, tmp_path_factory) -> Path:
    """Twelve clips of two moments and six places, and what ltx-precompute makes of them."""
    folder, whole = tmp_path_factory.mktemp("film"), read_film()
    places = [(start, top, left) for start in STARTS for top in TOPS for left in LEFTS]
    for number, (start, top, left) in enumerate(places):
        cut = whole.part(start, 9, top=top, left=left)
        write_cut(folder / f"clips/{number:02}.mp4", cut, caption=f"a meadow, part {number}")
    precompute(folder)
    return folder


@pytest.fixture
def clip(film, generate) -> Callable[..., np.ndarray]:
    def clip(*words: str) -> np.ndarray:
        size = ("--height", "64", "--width", "64", "--num-frames", "9", "-o", "clip.mp4")
        generate(film, "--one-stage", "--prompt", "a meadow, part 3", *size, *words)
        return read_clip(film / "clip.mp4").frames.astype(int)

    return clip


def test_unseen_clips_cost_less_than_any_constant(film):
    overrides = (*PICTURE, "optimization.steps=40", "validation.interval=40")
    losses = train(film, "out", *overrides, "validation.holdout=3")
    names = held_names(film, "validation.holdout=3")
    assert len(names) == 3
    assert losses.keys() == {0, 40}
    constant = constant_loss(film, "video", names)
    assert 1.2 < constant < 2.5  # the clips differ from each other and within
    assert losses[40]["video"] < constant
    assert losses[40]["video"] < losses[0]["video"] / 1.5


@pytest.mark.slow
def test_picture_and_sound_of_unseen_clips_cost_less_than_any_constant(film, clip):
    overrides = (*BOTH, "optimization.steps=200", "validation.interval=200")
    losses = train(film, "both", *overrides, "validation.holdout=3")
    for stream in FOLDERS:
        constant = constant_loss(film, stream, held_names(film, "validation.holdout=3"))
        assert losses[200][stream] < constant
        assert losses[200][stream] < losses[0][stream] / 1.5
    assert np.abs(clip() - clip("--lora", "./both")).mean() > 1


@pytest.mark.slow
def test_one_clip_is_learnt_by_heart(tiny, tmp_path):
    """Five copies: four to train on, and one that the loss is measured on."""
    cut = read_film().part(8, 9, top=0, left=80)
    for number in range(5):
        write_cut(tmp_path / f"clips/{number}.mp4", cut, caption="a rabbit in a meadow")
    precompute(tmp_path)
    overrides = (*BOTH, "optimization.steps=500", "validation.interval=500")
    losses = train(tmp_path, "out", *overrides, "validation.holdout=1")
    for stream in FOLDERS:
        assert losses[500][stream] < constant_loss(tmp_path, stream, ["0"]) / 2
