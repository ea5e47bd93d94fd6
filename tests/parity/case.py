"""A golden case: what the reference was given, what it answered, how near one has to come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ltx_models.checkpoint import Checkpoint, open_checkpoint


@dataclass(frozen=True)
class Case:
    """One file of ``cases/``; inputs are mx arrays by name without ``in.``."""

    name: str
    component: str
    folder: Path
    checkpoint_file: str
    inputs: Mapping[str, mx.array]
    expected: Mapping[str, np.ndarray]
    params: Mapping[str, Any]
    tolerance: Mapping[str, Mapping[str, Any]]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.folder / self.checkpoint_file)


def read_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "index.json").read_text())


def read_case(folder: Path, name: str) -> Case:
    index = read_index(folder)
    with safe_open(folder / index["cases"][name]["file"], "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    checkpoint = metadata.get("checkpoint", "")
    return Case(
        name=name,
        component=metadata["component"],
        folder=folder,
        checkpoint_file=index["checkpoints"].get(checkpoint, ""),
        inputs={k[3:]: mx.array(v) for k, v in tensors.items() if k.startswith("in.")},
        expected={k[4:]: v for k, v in tensors.items() if k.startswith("out.")},
        params=json.loads(metadata["params"]),
        tolerance=json.loads(metadata["tolerance"]),
    )
