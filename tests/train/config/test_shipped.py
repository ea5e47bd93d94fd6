"""The configurations that come with it: short, whole, and in the wheel."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ltx_train.config import read_run, shipped_configs

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "configs" / "train").glob("*.yaml"))
TABLE = {  # spec/training.md 1.2: picture, sound, conditions of each, rate, steps, kept
    "t2v_lora": ("generated", "generated", [], [], 1e-4, 2000, -1),
    "t2v_lora_low_vram": ("generated", "generated", [], [], 1e-4, 2000, -1),
    "i2v_lora": ("generated", "generated", ["first_frame"], [], 1e-4, 2000, -1),
    "a2v_lora": ("generated", "frozen", [], [], 1e-4, 2000, -1),
    "v2a_lora": ("frozen", "generated", [], [], 1e-4, 2000, -1),
    "t2a_lora": ("absent", "generated", [], [], 2e-4, 3000, 3),
    "video_extend_lora": ("generated", "generated", ["prefix"], [], 1e-4, 2000, -1),
    "video_suffix_lora": ("generated", "generated", ["suffix"], [], 1e-4, 2000, -1),
    "video_inpainting_lora": ("generated", "absent", ["mask"], [], 1e-4, 2000, -1),
    "video_outpainting_lora": ("generated", "absent", ["spatial_crop"], [], 1e-4, 2000, -1),
    "v2v_ic_lora": ("generated", "absent", ["reference", "first_frame"], [], 2e-4, 3000, 3),
    "av2av_ic_lora": ("generated", "generated", ["reference"], ["reference"], 2e-4, 3000, 3),
    "audio_extend_lora": ("absent", "generated", [], ["prefix"], 2e-4, 3000, 3),
    "audio_suffix_lora": ("absent", "generated", [], ["suffix"], 2e-4, 3000, 3),
    "audio_inpainting_lora": ("absent", "generated", [], ["mask"], 2e-4, 3000, 3),
    "a2a_ic_lora": ("absent", "generated", [], ["reference"], 2e-4, 3000, 3),
    "character_stills_lora": ("generated", "absent", [], [], 1e-4, 2000, -1),
}


def role(stream) -> str:
    return "absent" if stream is None else "generated" if stream.is_generated else "frozen"


def kinds(stream) -> list[str]:
    return [] if stream is None else [condition.type for condition in stream.conditions]


def test_there_is_one_for_every_kind_of_run():
    assert sorted(TABLE) == [path.stem for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_is_what_the_table_says(path):
    config, notes = read_run(path)
    strategy, optimization = config.training_strategy, config.optimization
    assert TABLE[path.stem] == (
        *map(role, (strategy.video, strategy.audio)),
        *map(kinds, (strategy.video, strategy.audio)),
        optimization.learning_rate,
        optimization.steps,
        config.checkpoints.keep_last_n,
    )
    rank = 16 if path.stem == "t2v_lora_low_vram" else 32
    assert (config.lora.rank, config.lora.alpha) == (rank, rank)
    assert config.optimization.enable_gradient_checkpointing
    assert config.output_dir == f"outputs/{path.stem}"
    assert config.validation.samples
    assert notes == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_opens_with_what_it_trains_and_the_commands(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    opening = "\n".join(lines[: lines.index("")])
    assert all(line.startswith("#") for line in opening.splitlines())
    assert "ltx-precompute --input-dir " in opening
    assert f"ltx-train --config configs/train/{path.name} " in opening


def test_targets_are_those_of_the_streams_that_learn():
    for path in SHIPPED:
        config = read_run(path).config
        targets = config.lora.target_modules
        if role(config.training_strategy.video) != "generated":
            assert all("audio" in target for target in targets)
        if role(config.training_strategy.audio) == "absent":
            assert all(target.split(".")[0] in ("attn1", "attn2", "ff") for target in targets)


def test_they_are_found_from_an_installed_package(tmp_path):
    """As a wheel lays the packages down: files in place of the link, and no checkout around."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["package-data"]["ltx_train.configs"] == ["*.yaml"]
    assert [path.name for path in sorted(shipped_configs().glob("*.yaml"))] == [
        path.name for path in SHIPPED
    ]
    for name in ("ltx_models", "ltx_infer", "ltx_train"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from ltx_train.config import read_run; print(read_run(None).config.output_dir)"
    command = [sys.executable, "-P", "-c", code]
    place = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=place, capture_output=True, text=True)
    assert done.stdout == "outputs/t2v_lora\n", done.stderr
