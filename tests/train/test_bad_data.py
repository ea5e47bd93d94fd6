"""Bad data, bases and folders to ltx-train: exit code 2, at most four lines, nothing written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.files import write_tensors
from ltx_models.tiny import tiny_folder
from ltx_train import cli
from tests.train.config.conftest import VALID
from tests.train.conftest import train
from tests.train.test_cli import failed

CONFIG = ("--config", "lora.yaml")
NAN = {"latents": mx.full((16, 2, 1, 2), float("nan"))}
WIDE = {"latents": mx.zeros((128, 2, 1, 2))}
REFERENCE = "training_strategy.video.conditions=[{type: reference, latents_dir: refs}]"
MASK = "training_strategy.video.conditions=[{type: mask, mask_dir: masks}]"
CLIPS = ("validation.samples=[{prompt: waves}]", "validation.video_dims=[64, 64, 9]")


def change(path: str, *, tensors=None, **about: str) -> None:
    """Other tensors and metadata in a file of the data."""
    found, metadata = mx.load(path, return_metadata=True)
    write_tensors(Path(path), {**found, **(tensors or {})}, {**metadata, **about})


def cut(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:-8])


def write_masks() -> None:
    for name in ("a", "sub/b"):
        mask = {"mask": mx.zeros((2, 1, 3))}
        write_tensors(Path(f"data/masks/{name}.safetensors"), mask, {})


def write_references() -> None:
    for name in ("a", "sub/b"):
        latents = {"latents": mx.zeros((16, 2, 2, 3))}
        write_tensors(Path(f"data/refs/{name}.safetensors"), latents, {"fps": "24"})


def name_distilled() -> None:
    source = next(tiny_folder().glob("ltx-*-tiny.safetensors"))
    Path("ltx-2.3-22b-distilled.safetensors").symlink_to(source)


def without_features(name: str) -> None:
    tensors = {key: mx.full((3, n), np.nan) for key, n in (("video", 64), ("audio", 32))}
    features = {f"{key}_prompt_embeds": value for key, value in tensors.items()}
    mask = {"prompt_attention_mask": mx.ones(3, mx.bool_)}
    write_tensors(Path(f"data/conditions/{name}.safetensors"), {**features, **mask}, {})


@pytest.fixture
def folder(data, tmp_path, monkeypatch) -> Path:
    """A copy of the data and a configuration, to work in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "lora.yaml").write_text(VALID)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found}


A = "data/latents/a.safetensors"
ROWS: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "no folder": (
        lambda: shutil.rmtree("data/latents"),
        [],
        "data.preprocessed_data_root data: it has no folder latents",
    ),
    "no samples": (
        lambda: [Path(p).unlink() for p in (A, "data/latents/sub/b.safetensors")],
        [],
        "data/latents: no sample (.safetensors, .pt) in it",
    ),
    "half a sample": (
        lambda: Path("data/conditions/a.safetensors").unlink(),
        [],
        "data: 1 of 2 samples are not whole. Missing:\n1 in conditions (a)",
    ),
    "another version": (
        lambda: change(A, model_version="2.0"),
        [],
        f"{A}: made for model version 2.0; the model is version 2.3.0",
    ),
    "other weights": (
        lambda: change("data/conditions/a.safetensors", model_hash="0-1"),
        [],
        "data/conditions/a.safetensors: made with weights 1; those of the model are",
    ),
    "not a number": (
        lambda: change(A, tensors=NAN),
        [],
        f"{A}: its latents are not all finite",
    ),
    "no features": (
        lambda: without_features("a"),
        [],
        "data/conditions/a.safetensors: its video_prompt_embeds are not all finite",
    ),
    "cut off": (lambda: cut(A), [], f"{A}: not a complete safetensors file"),
    "channels": (
        lambda: change(A, tensors=WIDE),
        [],
        f"{A}: latents of 128 channels; ltx-2.3-tiny.safetensors takes 16",
    ),
    "frame rate": (
        lambda: change(A, fps="none"),
        [],
        f"{A}: its metadata say fps 'none'; frames a second are wanted",
    ),
    "mask": (
        write_masks,
        [MASK],
        "data/masks/a.safetensors: a mask of 2x1x3; the latents it is for are 2x1x2",
    ),
    "reference": (
        write_references,
        [REFERENCE],
        "data/refs/a.safetensors: a reference of 16x2x2x3 latents",
    ),
    "batch": (
        lambda: None,
        ["optimization.batch_size=3"],
        "optimization.batch_size 3: there are 2 samples of 1 sizes, at most 2 of one",
    ),
    "holdout": (lambda: None, ["validation.holdout=2"], "validation.holdout 2: holds back 2 of 2"),
    "trigger": (
        lambda: None,
        ["data.trigger=zxc"],
        "data.trigger 'zxc': none of 2 captions contains it; the first is 'a clip of a.mp4'",
    ),
    "empty prompt": (
        lambda: Path("data/empty_prompt.safetensors").unlink(),
        ["training_strategy.caption_dropout=0.1"],
        "training_strategy.caption_dropout: the data have no text features of the empty prompt",
    ),
    "distilled": (
        name_distilled,
        ["model.model_path=ltx-2.3-22b-distilled.safetensors"],
        "these are distilled weights. An adapter is trained on the dev weights",
    ),
    "memory": (
        lambda: None,
        ["lora.rank=1000000"],
        "lora.rank=16 would take 0.01 GB",
    ),
    "target": (
        lambda: None,
        ["lora.target_modules=[to_kk]"],
        "lora.target_modules: no linear layer is named 'to_kk'",
    ),
    "sound's target": (
        lambda: None,
        ["lora.target_modules=[audio_attn1.to_q]"],
        "lora.target_modules: no linear layer is named 'audio_attn1.to_q'",
    ),
    "adapter": (
        lambda: None,
        ["model.load_checkpoint=gone"],
        "model.load_checkpoint gone: no such file or folder",
    ),
    "text encoder": (
        lambda: None,
        [*CLIPS, "model.text_encoder_path=gone"],
        "model.text_encoder_path gone: there is no such folder",
    ),
    "output": (
        lambda: None,
        ["output_dir=/dev/null/out"],
        "output_dir /dev/null/out: /dev/null is no folder that can be written to",
    ),
    "resume": (lambda: None, ["--resume"], "--resume: there is no run in output_dir outputs"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_data_to_train(folder, capsys, name):
    prepare, words, said = ROWS[name]
    prepare()
    before = contents(folder)
    assert said in failed(capsys, cli.main, *CONFIG, *words)
    assert contents(folder) == before


def test_a_dry_run_finds_the_same(folder, capsys):
    change(A, tensors=NAN)
    assert f"{A}: its latents are not all" in failed(capsys, cli.main, *CONFIG, "--dry-run")


def test_bad_runs_to_go_on_with(folder, capsys, configured):
    """A run that is there, one that has changed, and a state that is damaged."""
    out = f"output_dir={folder / 'out'}"
    train(configured(out, "optimization.steps=1", "data.preprocessed_data_root=data"))
    words = (*CONFIG, out, "optimization.steps=1")
    before = contents(folder)
    assert "there is a run in it already, saved at step 1" in failed(capsys, cli.main, *words)
    changed = failed(capsys, cli.main, *words, "--resume", "seed=1", "lora.rank=4")
    assert "--resume: since step 1 this has changed:\nseed: 42 -> 1\nlora.rank: 8 -> 4" in changed
    path = folder / "out/checkpoints/state_00001/state.safetensors"
    cut(str(path))
    damaged = failed(capsys, cli.main, *words, "--resume")
    assert "state_00001: this state is damaged: not a complete safetensors file" in damaged
    assert contents(folder) == {**before, path: path.read_bytes()}
    rank = failed(
        capsys, cli.main, *CONFIG, f"model.load_checkpoint={out[11:]}", "lora.rank=4", "seed=1"
    )
    assert "rank, out, in are" in rank
