"""What ltx-convert writes is the checkpoint, quantised and with LoRAs where that was asked."""

import json
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.card import LICENSE
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.lora.adapters import Strength, fuse
from ltx_models.lora.files import read_lora
from ltx_models.quantize import is_quantised, quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.weights import torch_layout
from tests.conftest import GOLDEN
from tests.models.converted.folders import golden, tensors_of

MODELS = ("ltx2-tiny", "ltx2.3-tiny")
MODES = (quantization(6), pytest.param(quantization(mode="nvfp4"), marks=pytest.mark.slow))
LARGEST = 200_000  # bytes of a file: several for each network
COMFY, ALPHA = ("lora-comfy-ltx23", "lora-alpha-ltx23")


def request(output, model="ltx2.3-tiny", **options):
    return ConvertRequest(GOLDEN / f"{model}.safetensors", output, **options)


def lora(name):
    return read_lora(GOLDEN / f"{name}.safetensors")


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_is_there_as_it_was(tmp_path, model):
    monolith = golden(model)
    convert(request(tmp_path / "out", model, largest_file=LARGEST))
    assert len(list((tmp_path / "out/transformer").glob("model-*-of-*.safetensors"))) > 2
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.file.infos == monolith.file.infos
    assert (checkpoint.version, checkpoint.config) == (monolith.version, monolith.config)
    assert same(tmp_path / "out", monolith.path)


def test_index_and_header_are_as_mlx_and_safetensors_have_them(tmp_path):
    convert(request(tmp_path, largest_file=LARGEST))
    folder = tmp_path / "transformer"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = [mx.load(str(path), return_metadata=True) for path in folder.glob("*.safetensors")]
    assert all(metadata == {"format": "mlx"} for _, metadata in files)
    names = {name: value.nbytes for tensors, _ in files for name, value in tensors.items()}
    assert index["weight_map"].keys() == names.keys()
    assert index["metadata"] == {"total_size": sum(names.values())}
    assert all(path.stat().st_size < LARGEST + 30_000 for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("how", MODES, ids=str)
def test_a_quantised_transformer_is_that_of_quantising_at_load(tmp_path, how):
    convert(request(tmp_path, how=how))
    wanted = load_transformer(golden("ltx2.3-tiny"), dtype=mx.float32)
    assert quantize(wanted, how) > 0
    found = torch_layout(load_transformer(open_checkpoint(tmp_path), dtype=mx.float32))
    scales = golden("ltx2.3-tiny").file.infos  # bfloat16 weights have bfloat16 scales
    rounded = {key.removesuffix(".weight") for key, info in scales.items() if info.dtype == "BF16"}
    for key, tensor in torch_layout(wanted).items():
        if f"{TRANSFORMER}{key.rsplit('.', 1)[0]}" not in rounded:
            assert mx.array_equal(found[key], tensor).item(), key
    config = json.loads((tmp_path / "transformer/config.json").read_text())
    said = {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}
    assert config["quantization"] == config["quantization_config"] == said


def fp8_twins(folder):
    """The small LTX-2.3 as Lightricks writes fp8, and the same with the products as bfloat16."""
    monolith = golden("ltx2.3-tiny")
    scaled, plain = {}, {}
    for number, (key, value) in enumerate(sorted(tensors_of(monolith).items())):
        path = key.removeprefix(TRANSFORMER).removesuffix(".weight")
        scaled[key] = plain[key] = value
        if path == key or not is_quantised(path, value.shape, quantization(4)):
            continue
        scale = mx.abs(value).max().astype(mx.float32) / 448
        scaled[key] = mx.to_fp8(value.astype(mx.float32) / scale)
        plain[key] = mx.from_fp8(scaled[key], mx.float32) * scale
        if number % 2:  # one scale for all, or one for each row
            scale = mx.broadcast_to(scale, (len(value), 1))
        scaled[f"{key}_scale"] = scale
        scaled[key.replace(".weight", ".input_scale")] = mx.array(1.0)
    plain = {k: v.astype(mx.bfloat16) if f"{k}_scale" in scaled else v for k, v in plain.items()}
    metadata = dict(monolith.file.metadata)
    mx.save_safetensors(str(folder / "plain.safetensors"), plain, metadata)
    mx.save_safetensors(str(folder / "fp8.safetensors"), scaled, metadata)
    as_fp8(folder / "fp8.safetensors", {k for k in scaled if f"{k}_scale" in scaled})
    return folder / "fp8.safetensors", folder / "plain.safetensors"


def as_fp8(path, keys):
    """Call bytes F8_E4M3 in the header of a file, as MLX cannot."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for key in keys:
        assert header[key]["dtype"] == "U8"
        header[key]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def test_fp8_is_read_with_its_scales(tmp_path):
    fp8, plain = fp8_twins(tmp_path)
    assert sum(info.dtype == "F8_E4M3" for info in open_checkpoint(fp8).file.infos.values()) > 20
    convert(ConvertRequest(fp8, tmp_path / "float"))
    assert same(tmp_path / "float", plain)


@pytest.mark.slow
def test_fp8_is_quantised_from_its_products(tmp_path):
    fp8, plain = fp8_twins(tmp_path)
    convert(ConvertRequest(fp8, tmp_path / "a", how=quantization(4)))
    convert(ConvertRequest(plain, tmp_path / "b", how=quantization(4)))
    assert same(tmp_path / "a", tmp_path / "b")


def same(one, other):
    found, wanted = (tensors_of(open_checkpoint(path)) for path in (one, other))
    assert found.keys() == wanted.keys()
    return all(
        found[key].dtype == wanted[key].dtype and mx.array_equal(found[key], wanted[key]).item()
        for key in wanted
    )


def test_loras_are_fused_into_the_weights(tmp_path):
    loras = ((lora(COMFY), Strength(0.7, 0.3)), (lora(ALPHA), Strength(-0.5)))
    convert(request(tmp_path, loras=loras))
    wanted = load_transformer(golden("ltx2.3-tiny"), dtype=mx.float32)
    fit = fuse(wanted, loras).fit
    found = torch_layout(load_transformer(open_checkpoint(tmp_path), dtype=mx.float32))
    plain = torch_layout(load_transformer(golden("ltx2.3-tiny"), dtype=mx.float32))
    infos = golden("ltx2.3-tiny").file.infos
    for key, tensor in torch_layout(wanted).items():
        rounds = infos[f"{TRANSFORMER}{key}"].dtype == "BF16"
        stored = tensor.astype(mx.bfloat16 if rounds else mx.float32).astype(mx.float32)
        assert mx.array_equal(found[key], stored).item(), key
    changed = {key for key in plain if not mx.array_equal(found[key], plain[key]).item()}
    assert {key.removesuffix(".weight").removesuffix(".bias") for key in changed} == set(fit.placed)
    about = json.loads((tmp_path / "config.json").read_text())
    strengths = {"strength": 0.7, "audio_strength": 0.3}
    assert about["loras"][0] == {"name": f"{COMFY}.safetensors", **strengths}


def random_lora(path, shapes):
    """Full differences and factors for a checkpoint's tensors by key."""
    draw = np.random.default_rng(0)
    found = {}
    for key, shape in shapes.items():
        name, _, last = key.rpartition(".")
        if last == "weight" and len(shape) == 2:
            found[f"{name}.lora_A.weight"] = draw.normal(size=(2, shape[1]))
            found[f"{name}.lora_B.weight"] = draw.normal(size=(shape[0], 2))
        elif last in ("weight", "bias"):
            found[f"{name}.{'diff' if last == 'weight' else 'diff_b'}"] = draw.normal(size=shape)
        else:
            found[f"{key}.diff"] = draw.normal(size=shape)
    tensors = {key: mx.array(value, mx.float32) for key, value in found.items()}
    mx.save_safetensors(str(path), tensors)
    return read_lora(path), tensors


def test_the_text_path_norms_and_tables_are_changed_too(tmp_path):
    monolith = golden("ltx2.3-tiny")
    block = f"{TRANSFORMER}transformer_blocks.0."
    keys = {
        "text_embedding_projection.video_aggregate_embed.weight",
        f"{TRANSFORMER}audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_k.weight",
        f"{block}attn1.q_norm.weight",
        f"{block}scale_shift_table",
        f"{block}attn1.to_v.bias",
    }
    infos = monolith.file.infos
    shapes = {f"diffusion_model.{k.removeprefix(TRANSFORMER)}": infos[k].shape for k in keys}
    file, tensors = random_lora(tmp_path / "lora.safetensors", shapes)
    convert(request(tmp_path / "out", loras=((file, Strength(0.5)),)))
    found, before = tensors_of(open_checkpoint(tmp_path / "out")), tensors_of(monolith)
    changed = {key for key in before if not mx.array_equal(found[key], before[key]).item()}
    assert changed == keys
    for key in keys:
        at = f"diffusion_model.{key.removeprefix(TRANSFORMER)}".removesuffix(".weight")
        if f"{at}.lora_A.weight" in tensors:
            change = tensors[f"{at}.lora_B.weight"] @ tensors[f"{at}.lora_A.weight"]
        else:
            bias = at.endswith(".bias")
            change = tensors[f"{at.removesuffix('.bias')}.diff{'_b' if bias else ''}"]
        wanted = (before[key].astype(mx.float32) + 0.5 * change).astype(before[key].dtype)
        assert mx.abs(found[key] - wanted).max() <= 1e-5, key


@pytest.mark.slow
def test_a_lora_is_fused_before_quantising(tmp_path):
    loras, how = ((lora(COMFY), Strength(1.0)),), quantization(8, group_size=32)
    convert(request(tmp_path / "fused", loras=loras))
    convert(replace(request(tmp_path / "again"), source=tmp_path / "fused", how=how))
    convert(request(tmp_path / "at once", loras=loras, how=how))
    assert same(tmp_path / "at once", tmp_path / "again")
    about = json.loads((tmp_path / "again/config.json").read_text())
    assert [each["name"] for each in about["loras"]] == [f"{COMFY}.safetensors"]


def test_the_card_says_what_was_done(tmp_path):
    loras = ((lora(COMFY), Strength(0.5)),)
    convert(request(tmp_path, loras=loras, how=quantization(4), variant="dev"))
    card = (tmp_path / "README.md").read_text()
    for words in (
        "library_name: mlx",
        "base_model: Lightricks/LTX-2.3",
        f"license_name: {LICENSE['license_name']}",
        f"- LoRA `{COMFY}.safetensors` fused at strength 0.5",
        "quantised: affine 4 bit, groups of 32",
        "# LTX-2.3 dev affine 4 bit for MLX",
        "| `vae/decoder/` |",
    ):
        assert words in card
    assert str(tmp_path) not in card
