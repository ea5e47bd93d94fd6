"""Checkpoint files of any size that take no room: of zeros, on a disk that knows holes."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from ltx_models.released import LTX_2_3
from ltx_models.tiny import networks, shared_key
from ltx_models.weights import torch_shapes

NUM_FEATURES = 3840 * 49  # of Gemma 3 12B: channels, hidden states
BASIS = "vocoder.mel_stft.stft_fn.{}_basis"


def full_size_shapes() -> dict[str, tuple[int, ...]]:
    """Every key of the released LTX-2.3, with its shape in the file."""
    found = {
        shared_key(prefix + key): shape
        for prefix, network in networks(LTX_2_3, num_features=NUM_FEATURES).items()
        for key, shape in torch_shapes(network).items()
    }
    return found | {BASIS.format("inverse"): found[BASIS.format("forward")]}


def full_size_gemma(folder: Path) -> Path:
    """A folder with what is checked of Gemma 3 12B before it is loaded."""
    gemma = folder / "gemma"
    gemma.mkdir()
    sizes = {"hidden_size": 3840, "num_hidden_layers": 48}
    config = {"model_type": "gemma3", "text_config": sizes}
    (gemma / "config.json").write_text(json.dumps(config))
    (gemma / "tokenizer.json").write_text("{}")
    shapes = {f"language_model.model.layers.{i}": (3840, 3840) for i in range(1000)}
    for part in range(5):
        write_empty(gemma / f"model-{part}.safetensors", shapes, {})
    return gemma


def metadata_of(config: Mapping) -> dict[str, str]:
    return {"config": json.dumps(config), "model_version": "2.3.0"}


def write_empty(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> None:
    """A safetensors file of bfloat16 zeros, nearly all of it a hole."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
