"""What is wrong with a converted folder is said in at most four lines that name the file."""

import shutil

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.quantize import quantization
from ltx_models.transformer import load_transformer
from ltx_models.video_vae import load_video_encoder
from tests.models.converted.folders import (
    change_json,
    change_tensors,
    golden,
    write_folder,
    write_json,
    write_network,
)

TO_Q = "transformer_blocks.0.attn1.to_q"
TRANSFORMER, ENTRY = "transformer", {"bits": 4, "group_size": 32, "mode": "affine"}
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root, monolith = tmp_path_factory.mktemp("folders"), golden("ltx2.3-tiny")
    write_folder(root / "plain", monolith)
    write_folder(root / "quantised", monolith, quantization(4))
    return root


@pytest.fixture
def plain(originals, tmp_path):
    return shutil.copytree(originals / "plain", tmp_path / "plain")


@pytest.fixture
def four_bit(originals, tmp_path):
    return shutil.copytree(originals / "quantised", tmp_path / "quantised")


def said(folder, load=open_checkpoint) -> str:
    """The error, with the folder's path taken out of it."""
    with pytest.raises(UserError) as error:
        load(folder)
    text = str(error.value)
    assert len(text.splitlines()) <= 4
    assert str(folder) in text
    return text.replace(f"{folder}/", "").replace(str(folder), "folder")


def loaded(folder):
    return load_transformer(open_checkpoint(folder), dtype=mx.bfloat16)


def index(folder, change, network=TRANSFORMER):
    change_json(folder / network / INDEX, lambda data: change(data["weight_map"]))


def test_missing_files(plain):
    index(plain, lambda names: names.update(a="model-00007-of-00009.safetensors"))
    assert said(plain) == (
        "transformer: files of its index are missing:\nmodel-00007-of-00009.safetensors"
    )
    (plain / TRANSFORMER / INDEX).unlink()
    (plain / TRANSFORMER / FILE).unlink()
    assert said(plain) == "transformer: has no .safetensors"
    shutil.rmtree(plain / "vae/encoder")
    assert said(plain) == "vae/encoder/config.json: no such file or folder"


def test_an_index_that_is_not_that_of_its_files(plain):
    index(plain, lambda names: names.update({"stray.weight": FILE}))
    where = f"transformer/{INDEX} is not that of its files:\n"
    assert said(plain) == f"{where}not in {FILE}: stray.weight"
    index(plain, lambda names: (names.pop("stray.weight"), names.pop("proj_out.bias")))
    assert said(plain) == f"{where}not listed: proj_out.bias"
    index(plain, lambda names: names.update({"proj_out.bias": "other.safetensors"}))
    mx.save_safetensors(str(plain / TRANSFORMER / "other.safetensors"), {"a": mx.ones(1)})
    assert said(plain) == (
        f"{where}not listed: a\nin {FILE}, not in other.safetensors: proj_out.bias"
    )
    index(plain, lambda names: names.update({"proj_out.bias": "../x.safetensors"}))
    at = f"transformer/{INDEX}: weight_map"
    assert said(plain) == f"{at}: names of files beside it are wanted, not '../x.safetensors'"
    write_json(plain / TRANSFORMER / INDEX, {"weight_map": []})
    assert said(plain) == f"{at} is not a JSON object, but []"


def test_a_tensor_in_two_files(plain):
    (plain / TRANSFORMER / INDEX).unlink()
    twice = {"proj_out.bias": mx.ones(1)}
    mx.save_safetensors(str(plain / TRANSFORMER / "more.safetensors"), twice)
    assert said(plain) == f"transformer/more.safetensors: proj_out.bias is in {FILE}, too"


def test_a_torn_file(plain):
    path = plain / "vocoder" / FILE
    path.write_bytes(path.read_bytes()[:-1])
    assert said(plain).startswith(f"vocoder/{FILE}: not a complete safetensors file (")


def test_parts_of_a_vae_that_differ(plain):
    name = "per_channel_statistics.mean-of-means"
    change_json(plain / "vae/decoder/config.json", lambda config: config.update(patch_size=2))
    assert said(plain) == (
        "vae/decoder/config.json: differs from the configuration of the other part of vae"
    )
    change_json(plain / "vae/encoder/config.json", lambda config: config.update(patch_size=2))
    change_tensors(plain / "vae/decoder", lambda own: own.update({name: own[name] + 1}))
    assert said(plain) == f"vae/decoder/{FILE}: {name} is not what vae/encoder/{FILE} has as {name}"


def test_tensors_without_a_place(plain):
    change_tensors(plain / "text_projections", lambda own: own.update({"a.b": mx.ones(1)}))
    assert said(plain) == f"text_projections/{FILE}: a.b belongs to no network of LTX-2"


def test_a_network_that_does_not_fit_is_named_by_its_folder(plain):
    def encoder(folder):
        return load_video_encoder(open_checkpoint(folder), dtype=mx.bfloat16)

    change_tensors(plain / "vae/encoder", lambda own: own.pop("conv_in.conv.bias"))
    assert said(plain, encoder) == (
        "vae/encoder does not fit VideoEncoder:\nmissing: vae.encoder.conv_in.conv.bias"
    )


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"model_type": "llama"}, "its model_type is 'llama'; ltx-convert writes 'ltx-2'"),
        ({"variant": "fast"}, "its variant is 'fast'; dev and distilled would fit"),
        ({"scheduler": 3}, "scheduler is not a JSON object, but 3"),
        ({"model_version": "2.5"}, "LTX-2.5 or later (model_version 2.5); only LTX-2 and LTX-2.3"),
    ],
)
def test_the_folder_itself(plain, about, text):
    change_json(plain / "config.json", lambda config: config.update(about))
    assert text in said(plain)


def test_other_folders(tmp_path):
    assert said(tmp_path) == "transformer/config.json: no such file or folder"
    write_json(tmp_path / "transformer/config.json", {"_class_name": "LTX2VideoTransformer3DModel"})
    assert said(tmp_path) == "config.json: no such file; ltx-convert writes it"
    write_json(tmp_path / "model_index.json", {})
    assert said(tmp_path) == (
        "folder: the layout of diffusers, which is not read here.\n"
        "Name the .safetensors of the whole model, as Lightricks publishes it"
    )


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({}, "has no quantization, and transformer_blocks."),
        ([4], "quantization is not a JSON object, but [4]"),
        ({"bits": "4", "group_size": 32}, "quantization has bits, group_size and mode, not {'bit"),
        ({"bits": 4}, "quantization has bits, group_size and mode, not {'bits': 4}"),
        ({**ENTRY, "bits": 7}, "affine quantisation has 2, 3, 4, 5, 6, 8 bits, not 7"),
        ({**ENTRY, "bits": True}, "affine quantisation has 2, 3, 4, 5, 6, 8 bits, not True"),
        ({**ENTRY, "group_size": 48}, "affine groups are of 32, 64, 128, not 48"),
        ({**ENTRY, "mode": "gguf"}, "quantisation 'gguf': there are affine, mxfp4"),
        ({**ENTRY, "mode": "mxfp4", "group_size": 64}, "mxfp4 has 4 bits in groups of 32, no"),
        ({**ENTRY, "group_size": 64}, "is not affine 4 bit, groups of 64, as config.json has"),
        ({**ENTRY, "mode": "mxfp4"}, "is not mxfp4 4 bit, groups of 32, as config.json has it:\n"),
        ({**ENTRY, TO_Q: 4}, f"{TO_Q} is not a JSON object, but 4"),
        ({**ENTRY, TO_Q: False}, f"{TO_Q} is not a JSON object, but false"),
        ({**ENTRY, "proj_out": ENTRY}, "quantization of what is not quantised:\nproj_out"),
    ],
)
def test_entries_that_do_not_fit(four_bit, entry, text):
    change_json(four_bit / "transformer/config.json", lambda c: c.update(quantization=entry))
    found = said(four_bit)
    assert text in found
    assert found.startswith(("transformer/config.json: ", "transformer: "))


def test_what_is_said_to_be_quantised_and_is_not(plain):
    change_json(plain / "transformer/config.json", lambda c: c.update(quantization=ENTRY))
    assert "quantization of what is not quantised:\n" in said(plain)
    change_json(plain / "transformer/config.json", lambda c: c.pop("quantization"))
    change_json(plain / "vocoder/config.json", lambda c: c.update(quantization=ENTRY))
    only = "quantization: only the transformer is quantised here"
    assert said(plain) == f"vocoder/config.json: {only}"


def test_halves_of_quantised_layers(four_bit):
    folder = four_bit / TRANSFORMER
    change_tensors(folder, lambda own: own.pop(f"{TO_Q}.scales"))
    assert said(four_bit) == (
        f"transformer: quantised weights without their scales:\nmodel.diffusion_model.{TO_Q}.weight"
    )
    weight, scales = mx.ones((2, 8), mx.uint32), mx.ones((2, 2))
    change_tensors(folder, lambda own: (own.pop(f"{TO_Q}.weight"), own.update(a=weight)))
    change_tensors(folder, lambda own: own.update({f"{TO_Q}.scales": scales}))
    assert said(four_bit) == f"transformer: {TO_Q}.scales is there, and no {TO_Q}.weight"


def test_quantised_layers_that_the_model_does_not_have(four_bit):
    layer = {"weight": mx.ones((2, 8), mx.uint32), "scales": mx.ones((2, 2))}
    stray = {f"stray.{name}": tensor for name, tensor in layer.items()}
    change_tensors(four_bit / TRANSFORMER, lambda own: own.update(stray))
    found = said(four_bit, loaded)
    assert found.startswith("transformer does not fit Transformer:\nunknown: ")
    assert "model.diffusion_model.stray.scales" in found


def test_groups_that_the_models_widths_are_no_multiple_of(four_bit):
    wide = {
        "weight": mx.ones((2, 16), mx.uint32),
        "scales": mx.ones((2, 1)),
        "biases": mx.ones((2, 1)),
    }
    stored = {f"{TO_Q}.{name}": tensor for name, tensor in wide.items()}
    change_tensors(four_bit / TRANSFORMER, lambda own: own.update(stored))
    own = {**ENTRY, TO_Q: {**ENTRY, "group_size": 128}}
    change_json(four_bit / "transformer/config.json", lambda c: c.update(quantization=own))
    assert said(four_bit, loaded) == (
        f"transformer: {TO_Q} is stored as affine 4 bit, groups of 128, which 64 inputs are no "
        "multiple of"
    )


def test_integers_elsewhere(plain):
    def encoder(folder):
        return load_video_encoder(open_checkpoint(folder), dtype=mx.bfloat16)

    name = "conv_in.conv.weight"
    change_tensors(plain / "vae/encoder", lambda own: own.update({name: mx.ones(2, mx.uint32)}))
    assert "vae.encoder.conv_in.conv.weight is U32" in said(plain, encoder)
    write_network(plain / "vae/encoder", {})
    assert "vae/encoder does not fit VideoEncoder" in said(plain, encoder)
