"""Memory that opening a 2 GB checkpoint takes, and building its transformer after that.

And the time that it takes to fit every network of a full-size one.
"""

import tempfile
from pathlib import Path

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten

from ltx_models.check import check_networks
from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.released import LTX_2_3
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.weights import torch_shapes
from tests.bench.timing import interleaved_medians
from tests.full_size import full_size_gemma, full_size_shapes, metadata_of, write_empty

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
    shapes = {f"{TRANSFORMER}{key}": shape for key, shape in torch_shapes(model).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "big.safetensors")
        write_empty(path, shapes, metadata_of(config))
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


def measure_check() -> dict[str, float]:
    """Seconds of opening a full-size LTX-2.3 (46 GB) and of fitting all its networks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "full.safetensors")
        write_empty(path, full_size_shapes(), metadata_of(LTX_2_3))
        gemma = full_size_gemma(Path(folder))
        open_s, check_s = interleaved_medians(
            [
                lambda: open_checkpoint(path),
                lambda: check_networks(open_checkpoint(path), gemma=gemma, upscaler=None),
            ]
        )
    return {"open_s": open_s, "check_s": check_s}
