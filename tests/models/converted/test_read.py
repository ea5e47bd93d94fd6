"""A converted folder is the checkpoint that it was made from, or an error says what it is."""

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.identity import weights_hash
from ltx_models.quantize import is_quantised, quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.weights import torch_layout
from tests.models.converted.folders import (
    change_json,
    change_tensors,
    golden,
    quantised,
    tensors_of,
    write_folder,
)

MODELS = ["ltx2-tiny", "ltx2.3-tiny"]
MODES = [quantization(4), quantization(8, group_size=32), quantization(mode="mxfp4")]
MODES += [quantization(mode="nvfp4")]


@pytest.mark.parametrize("model", MODELS)
def test_it_is_the_checkpoint(tmp_path, model):
    monolith = golden(model)
    checkpoint = open_checkpoint(write_folder(tmp_path, monolith))
    assert (checkpoint.version, checkpoint.config) == (monolith.version, monolith.config)
    assert checkpoint.file.infos == monolith.file.infos
    assert weights_hash([checkpoint.file]) == weights_hash([monolith.file])
    found, wanted = tensors_of(checkpoint), tensors_of(monolith)
    assert found.keys() == wanted.keys()
    assert all(mx.array_equal(found[key], wanted[key]).item() for key in wanted)


def test_its_hashes_are_those_of_the_checkpoint_but_for_what_is_quantised(tmp_path):
    monolith = golden("ltx2.3-tiny")
    checkpoint = open_checkpoint(write_folder(tmp_path, monolith, quantization(4)))
    for prefix in ("vae.", "audio_vae.", "vocoder.", "text_embedding_projection."):
        wanted = weights_hash([monolith.file], prefixes=(prefix,))
        assert weights_hash([checkpoint.file], prefixes=(prefix,)) == wanted
    own = [weights_hash([each.file], prefixes=(TRANSFORMER,)) for each in (checkpoint, monolith)]
    assert own[0] != own[1]


@pytest.mark.parametrize("how", MODES, ids=str)
def test_it_is_quantised_as_its_configuration_says(tmp_path, how):
    monolith = golden("ltx2.3-tiny")
    checkpoint = open_checkpoint(write_folder(tmp_path, monolith, how))
    wanted = load_transformer(monolith, dtype=mx.float32)
    assert quantize(wanted, how) == len(checkpoint.quantization) > 0
    assert set(checkpoint.quantization.values()) == {how}
    found = torch_layout(load_transformer(checkpoint, dtype=mx.float32))
    for key, tensor in torch_layout(wanted).items():
        assert found[key].dtype == tensor.dtype
        assert mx.array_equal(found[key], tensor).item()


def test_one_stream_of_a_quantised_folder(tmp_path):
    checkpoint = open_checkpoint(write_folder(tmp_path, golden("ltx2.3-tiny"), quantization(4)))
    model = load_transformer(checkpoint, dtype=mx.float32, streams=("video",))
    whole = load_transformer(checkpoint, dtype=mx.float32)
    video = torch_layout(model)
    assert {key: torch_layout(whole)[key].dtype for key in video} == {
        key: tensor.dtype for key, tensor in video.items()
    }


def test_layers_may_have_entries_of_their_own(tmp_path):
    monolith = golden("ltx2.3-tiny")
    folder = write_folder(tmp_path, monolith, quantization(4))
    path, other = "transformer_blocks.0.ff.net.2", quantization(8, group_size=32)
    weight = monolith.file.tensors(TRANSFORMER, [f"{path}.weight"])
    assert is_quantised(path, weight[f"{path}.weight"].shape, other)
    change_tensors(folder / "transformer", lambda own: own.update(quantised(weight, other)))
    change_json(
        folder / "transformer/config.json",
        lambda config: config["quantization"].update({path: other._asdict(), "proj_out": False}),
    )
    checkpoint = open_checkpoint(folder)
    assert checkpoint.quantization[path] == other
    model = load_transformer(checkpoint, dtype=mx.bfloat16)
    assert dict(model.named_modules())[path].bits == other.bits


def test_fp8_weights_are_multiplied_by_their_scales(tmp_path):
    monolith = golden("ltx2.3-tiny")
    name = "transformer_blocks.0.attn1.to_q.weight"
    weight = monolith.file.tensors(TRANSFORMER, [name])[name].astype(mx.float32)
    scale = mx.abs(weight).max() / 448
    codes = mx.to_fp8(weight / scale)
    folder = write_folder(tmp_path, monolith)
    stored = {name: codes, f"{name}_scale": scale}
    change_tensors(folder / "transformer", lambda own: own.update(stored))
    _say_fp8(folder / "transformer/model.safetensors")
    file = open_checkpoint(folder).file
    assert file.infos[TRANSFORMER + name].dtype == "F8_E4M3"
    found = file.tensors(TRANSFORMER, [name])[name]
    assert mx.array_equal(found, mx.from_fp8(codes, mx.float32) * scale).item()


def _say_fp8(path):
    """MLX writes the codes as bytes; the header is to say what they are."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size]
    assert header.count(b'"U8"') == 1
    header = header.replace(b'"U8"', b'"F8_E4M3"').rstrip()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
