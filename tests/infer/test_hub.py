import json

import mlx.core as mx
import pytest

from ltx_infer.hub import find_model
from ltx_models.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


def test_tiny_is_complete(tiny):
    files = find_model("tiny", variant="distilled")
    assert files.checkpoint.parent == tiny
    assert files.spatial_upscaler().name == "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
    assert json.loads((files.text_encoder() / "config.json").read_text())["model_type"] == "gemma3"


def test_folder_with_both_variants(tmp_path):
    touch(tmp_path, "ltx-2-19b-dev.safetensors", "ltx-2-19b-distilled.safetensors")
    touch(tmp_path, "ltx-2-19b-distilled-lora-384.safetensors")
    touch(tmp_path, "ltx-2-spatial-upscaler-x2-1.0.safetensors")
    found = find_model(str(tmp_path), variant="distilled")
    assert found.checkpoint.name == "ltx-2-19b-distilled.safetensors"
    assert find_model(str(tmp_path), variant="dev").checkpoint.name == "ltx-2-19b-dev.safetensors"


def test_file_finds_its_companions_beside_it(tmp_path):
    touch(tmp_path, "a.safetensors", "x-spatial-upscaler-x2-1.0.safetensors")
    touch(tmp_path, "x-spatial-upscaler-x2-1.1.safetensors")
    files = find_model(str(tmp_path / "a.safetensors"), variant="distilled")
    assert files.spatial_upscaler().name == "x-spatial-upscaler-x2-1.1.safetensors"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder\. It takes tiny, a"):
        find_model(str(tmp_path / "gone"), variant="distilled")
    with pytest.raises(UserError, match=r"no checkpoint \(\.safetensors\) in this folder"):
        find_model(str(tmp_path), variant="distilled")
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {"x": mx.zeros(1)})
    files = find_model(str(tmp_path), variant="distilled")
    with pytest.raises(UserError, match=r"(?s)no spatial upscaler .* run without the second stage"):
        files.spatial_upscaler()
    with pytest.raises(UserError, match=r"no folder with a Gemma 3.*\nName one with --text-enc"):
        files.text_encoder()


def test_several_checkpoints_are_listed(tmp_path):
    touch(tmp_path, "ltx-2-a.safetensors", "ltx-2-b.safetensors")
    with pytest.raises(UserError, match=r"name one of its checkpoints: ltx-2-a\.safete.*, ltx-2-b"):
        find_model(str(tmp_path), variant="distilled")


def test_torn_config_beside_the_checkpoint_is_named(tmp_path):
    touch(tmp_path, "a.safetensors")
    (tmp_path / "gemma").mkdir()
    (tmp_path / "gemma" / "config.json").write_text('{"model_type": "gem')
    files = find_model(str(tmp_path), variant="distilled")
    with pytest.raises(UserError, match=r"gemma/config\.json: not JSON"):
        files.text_encoder()
