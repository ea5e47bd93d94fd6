"""Memory that opening a 2 GB checkpoint takes, and building its transformer after that."""

import json
import struct
import tempfile
from math import prod
from pathlib import Path

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten

from ltx_models.checkpoint import TRANSFORMER, open_checkpoint
from ltx_models.released import LTX_2_3
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer

SIZES = {
    "num_layers": 40,
    "num_attention_heads": 8,
    "cross_attention_dim": 1024,
    "audio_num_attention_heads": 8,
    "audio_cross_attention_dim": 512,
    "connector_num_attention_heads": 8,
    "audio_connector_num_attention_heads": 8,
}


def measure() -> dict[str, float]:
    """Megabytes of the file, of resident memory that each step adds, and of MLX's own."""
    config = {**LTX_2_3, "transformer": {**LTX_2_3["transformer"], **SIZES}}
    model = Transformer(TransformerConfig.read(config["transformer"]))
    shapes = {f"{TRANSFORMER}{k}": v.shape for k, v in tree_flatten(model.parameters())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "big.safetensors")
        write_empty(path, shapes, {"config": json.dumps(config), "model_version": "2.3.0"})
        start = _resident_mb()
        checkpoint = open_checkpoint(path)
        tensors = checkpoint.file.tensors("", checkpoint.file.infos)
        opened = _resident_mb()
        model = load_transformer(checkpoint, dtype=mx.bfloat16)
        assert len(tensors) == len(tree_flatten(model.parameters()))
        return {
            "file_mb": path.stat().st_size / 1e6,
            "opened_mb": opened - start,
            "transformer_built_mb": _resident_mb() - opened,
            "mlx_mb": mx.get_active_memory() / 1e6,
        }


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def write_empty(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str]) -> None:
    """A safetensors file of bfloat16 zeros that takes no room on a disk that knows holes."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
