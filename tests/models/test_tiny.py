import mlx.core as mx
import numpy as np
import pytest

from ltx_models.tiny import tiny_folder, write_tiny
from ltx_models.weights import TensorFile


def test_made_once_and_named_by_its_recipe(tiny):
    stamps = {path: path.stat().st_mtime_ns for path in tiny.iterdir()}
    assert tiny_folder() == tiny
    assert {path: path.stat().st_mtime_ns for path in tiny.iterdir()} == stamps


def test_same_recipe_same_numbers(tiny, tmp_path):
    write_tiny(tmp_path)
    for path in tiny.rglob("*.safetensors"):
        one, two = TensorFile(path), TensorFile(tmp_path / path.relative_to(tiny))
        assert one.infos == two.infos
        assert one.metadata == two.metadata
        a, b = one.tensors("", one.infos), two.tensors("", two.infos)
        assert all(mx.array_equal(a[key], b[key]) for key in a)


def test_nothing_unfinished_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path))

    def torn(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr("ltx_models.tiny.write_tiny", torn)
    with pytest.raises(KeyboardInterrupt):
        tiny_folder()
    assert list(tmp_path.iterdir()) == []


def test_layout_is_the_real_one(tiny):
    golden = {k: v.dtype for k, v in TensorFile(tiny / "ltx-2.3-tiny.safetensors").infos.items()}
    assert set(golden.values()) == {"BF16"}
    prefixes = {key.split(".")[0] for key in golden}
    assert prefixes == {"model", "text_embedding_projection", "vae", "audio_vae", "vocoder"}
    assert np.any(["stft_fn.inverse_basis" in key for key in golden])
