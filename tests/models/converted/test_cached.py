"""A transformer that is quantised at load is kept, and read again, and is the same either way."""

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.cached import quantised_at_load
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.weights import torch_layout
from tests.conftest import GOLDEN
from tests.models.converted.folders import golden

HOW = quantization(4)
SOURCE = GOLDEN / "ltx2.3-tiny.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "quantised"


def kept(checkpoint, dtype, said):
    return quantised_at_load(checkpoint, HOW, dtype=dtype, say=said.append)


@pytest.mark.parametrize("dtype", [mx.float32, pytest.param(mx.bfloat16, marks=pytest.mark.slow)])
def test_it_is_what_quantising_in_memory_gives(cache, dtype):
    said = []
    first, again = (kept(golden("ltx2.3-tiny"), dtype, said) for _ in range(2))
    (folder,) = cache.iterdir()
    assert said == [f"{HOW}: kept for the next run in {folder}", f"{HOW}: from {folder}"]
    assert first.path == again.path == folder
    wanted = load_transformer(golden("ltx2.3-tiny"), dtype=dtype)
    assert quantize(wanted, HOW) == len(again.quantization)
    found = torch_layout(load_transformer(again, dtype=dtype))
    for key, tensor in torch_layout(wanted).items():
        assert found[key].dtype == tensor.dtype, key
        assert mx.array_equal(found[key], tensor).item(), key


def test_one_stream_reads_the_same_folder(cache):
    checkpoint = kept(golden("ltx2.3-tiny"), mx.float32, [])
    assert load_transformer(checkpoint, dtype=mx.float32, streams=("video",)) is not None


def test_other_weights_and_a_folder_of_the_same_are_told_apart(cache, tmp_path):
    kept(golden("ltx2.3-tiny"), mx.float32, [])
    kept(golden("ltx2-tiny"), mx.float32, [])
    assert len(list(cache.iterdir())) == 2
    convert(ConvertRequest(SOURCE, tmp_path / "ltx2.3-tiny"))
    said = []
    kept(open_checkpoint(tmp_path / "ltx2.3-tiny"), mx.float32, said)
    assert len(list(cache.iterdir())) == 2  # the same weights
    assert "from" in said[0]


def test_a_full_disk_leaves_it_in_memory(cache, small_files):
    said = []
    assert kept(golden("ltx2.3-tiny"), mx.float32, said) is None
    assert said == [f"{HOW}: quantised in memory and not kept in {cache}: file too large"]
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path / "file"))
    said = []
    assert kept(golden("ltx2.3-tiny"), mx.float32, said) is None
    assert said[0].endswith("not a directory")
