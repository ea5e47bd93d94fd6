"""A run with -q keeps the transformer for the next one, and says which folder it is in."""

import mlx.core as mx

from ltx_infer.pipeline.models import Models
from ltx_models.checkpoint import open_checkpoint
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.weights import torch_layout
from tests.conftest import GOLDEN


def test_both_stages_and_the_next_run_have_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path))
    checkpoint = open_checkpoint(GOLDEN / "ltx2.3-tiny.safetensors")
    said, found = [], []
    for _ in range(2):
        models = Models(checkpoint, GOLDEN, None, mx.float32, bits=4, say=said.append)
        found += [torch_layout(models.transformer(("video",))) for _ in range(2)]
    (folder,) = (tmp_path / "quantised").iterdir()
    how = quantization(4)
    assert said == [f"{how}: kept for the next run in {folder}", f"{how}: from {folder}"]
    wanted = load_transformer(checkpoint, dtype=mx.float32, streams=("video",))
    quantize(wanted, how)
    for key, tensor in torch_layout(wanted).items():
        assert all(mx.array_equal(each[key], tensor).item() for each in found), key
