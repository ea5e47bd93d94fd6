import os

import mlx.core as mx
import mlx.nn as nn
import pytest

from ltx_models.errors import UserError
from ltx_models.tiny import _recipe_hash, networks, tiny_folder, write_tiny
from ltx_models.tiny.sizes import CHECKPOINT, NUM_FEATURES
from ltx_models.video_vae import VideoDecoder
from ltx_models.weights import TensorFile, shapes


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
    """The keys that the networks have, and in the file their statistics once."""
    infos = TensorFile(tiny / "ltx-2.3-tiny.safetensors").infos
    assert {info.dtype for info in infos.values()} == {"BF16"}
    keys = {
        prefix + key
        for prefix, network in networks(CHECKPOINT, num_features=NUM_FEATURES).items()
        for key in shapes(network)
    }
    beside = {key for key in keys if "coder.per_channel_statistics." in key}
    assert len(beside) == 8
    keys -= beside
    keys |= {key.replace("encoder.", "").replace("decoder.", "") for key in beside}
    assert infos.keys() == keys | {"vocoder.mel_stft.stft_fn.inverse_basis"}


def test_others_may_read_it(tiny):
    assert tiny.stat().st_mode & 0o777 == 0o755


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "gemma-3-tiny/tokenizer.json",
        pytest.param("ltx-2.3-tiny.safetensors", marks=pytest.mark.slow),
    ],
)
def test_a_folder_that_has_lost_a_file_is_made_again(cache, name):
    folder = tiny_folder()
    (folder / name).unlink()
    assert tiny_folder() == folder
    assert (folder / name).is_file()
    assert list(cache.iterdir()) == [folder]


@pytest.fixture
def recipe_read_anew():
    _recipe_hash.cache_clear()
    yield _recipe_hash.cache_clear
    _recipe_hash.cache_clear()


def test_other_networks_have_another_folder(cache, monkeypatch, recipe_read_anew):
    """A layer more, in code outside this package, must not find the files of before."""
    before = tiny_folder()

    class Wider(VideoDecoder):
        def __init__(self, config):
            super().__init__(config)
            self.extra = nn.Linear(2, 2)

    monkeypatch.setattr("ltx_models.tiny.VideoDecoder", Wider)
    recipe_read_anew()
    after = tiny_folder()
    assert after != before
    assert "vae.decoder.extra.bias" in TensorFile(after / "ltx-2.3-tiny.safetensors").infos


def test_a_cache_that_is_a_file_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name, why in [("file", "file exists"), ("file/below", "not a directory")]:
        monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path / name))
        with pytest.raises(UserError) as error:
            tiny_folder()
        assert str(error.value).splitlines() == [
            f"the stand-in cannot be written to {tmp_path / name}: {why}",
            "Make room there, or name another folder in the variable LTX_MLX_CACHE.",
        ]


def test_a_cache_that_may_not_be_written_is_an_error(cache, monkeypatch):
    _recipe_hash()  # kept: it reads this package, which may lie where only its owner can
    cache.chmod(0o555)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # to root every folder is open
    try:
        with pytest.raises(UserError, match=r"cannot be written to .*: permission denied\n"):
            tiny_folder()
    finally:
        os.seteuid(before)
        cache.chmod(0o755)


def test_a_full_disk_is_an_error_and_leaves_nothing(cache, small_files):
    with pytest.raises(UserError) as error:
        tiny_folder()
    first, second = str(error.value).splitlines()
    assert first.startswith(f"the stand-in cannot be written to {cache}: ")
    assert "File too large" in first
    assert "LTX_MLX_CACHE" in second
    assert list(cache.iterdir()) == []
