"""Where the files of a run lie: the names in its folder, and what they say."""

import re
from pathlib import Path
from typing import NamedTuple

from ltx_infer.pipeline.find_lora import CHECKPOINTS

CONFIG, METRICS = "training_config.yaml", "metrics.jsonl"
REPORT, SAMPLES = "report.html", "samples"
SAMPLE = re.compile(r"step_(\d+)_(\d+)\.(mp4|png|wav)")
WEIGHTS = re.compile(r"(?:lora|model)_weights_step_(\d+)\.safetensors")


class MadeSample(NamedTuple):
    """A file of the folder ``samples``: which of the configuration's, made at which step."""

    step: int
    number: int  # from 1
    path: Path


def adapter_path(folder: Path, step: int) -> Path:
    """The file of a step's adapter."""
    return folder / CHECKPOINTS / f"lora_weights_step_{step:05}.safetensors"


def model_path(folder: Path, step: int) -> Path:
    """The file of a step's model, where all weights are trained."""
    return folder / CHECKPOINTS / f"model_weights_step_{step:05}.safetensors"


def made_samples(folder: Path) -> list[MadeSample]:
    """The samples that there are, by step and number."""
    matches = [(SAMPLE.fullmatch(path.name), path) for path in (folder / SAMPLES).glob("step_*")]
    return sorted(MadeSample(int(m[1]), int(m[2]), path) for m, path in matches if m)


def weight_files(folder: Path) -> list[tuple[int, Path]]:
    """The adapters or models of a run, each after its step, the first step first."""
    paths = (folder / CHECKPOINTS).glob("*.safetensors")
    matches = [(WEIGHTS.fullmatch(path.name), path) for path in paths]
    return sorted((int(m[1]), path) for m, path in matches if m)
