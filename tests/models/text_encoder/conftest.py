"""Copies of the golden Gemma folder and checkpoints, to be changed by a test."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from tests.conftest import GOLDEN

Tensors = dict[str, mx.array]


@pytest.fixture(scope="session")
def gemma_folder() -> Path:
    return GOLDEN / "gemma3-tiny"


@pytest.fixture(params=["ltx2-tiny", "ltx2.3-tiny"])
def checkpoint(request) -> Checkpoint:
    return open_checkpoint(GOLDEN / f"{request.param}.safetensors")


@pytest.fixture
def changed_gemma(gemma_folder, tmp_path):
    """A function that writes the golden Gemma with other tensors, keys or values of its config."""

    def write(
        config: Mapping[str, Any] | None = None,
        *,
        change: Callable[[Tensors], Tensors] = dict,
        **text_config: Any,
    ) -> Path:
        data = json.loads((gemma_folder / "config.json").read_text())
        data["text_config"] |= text_config
        folder = tmp_path / "gemma"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**data, **(config or {})}))
        (folder / "tokenizer.json").write_bytes((gemma_folder / "tokenizer.json").read_bytes())
        tensors = change(mx.load(str(gemma_folder / "model.safetensors")))
        mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "pt"})
        return folder

    return write


@pytest.fixture
def changed_checkpoint(checkpoint, tmp_path):
    """A function that writes a golden checkpoint with other tensors."""

    def write(change: Callable[[Tensors], Tensors]) -> Checkpoint:
        tensors, metadata = mx.load(str(checkpoint.path), return_metadata=True)
        path = tmp_path / checkpoint.path.name
        mx.save_safetensors(str(path), change(tensors), metadata)
        return open_checkpoint(path)

    return write
