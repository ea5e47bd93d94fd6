"""ltx-lora: what it says, what it writes, and what it refuses."""

import json
import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.lora_cli import main
from ltx_models.lora.files import read_lora
from ltx_models.lora.updates import float_weight
from ltx_models.transformer import load_transformer
from ltx_models.weights import TensorFile
from tests.conftest import GOLDEN
from tests.models.compensate.test_linear import written
from tests.models.lora.families import save
from tests.models.lora.test_scrambled import LAYERS, RANK, trained, written_as_it_lies

ADAPTER = GOLDEN / "lora-comfy-ltx23.safetensors"
QUERY, KEY = (f"transformer_blocks.0.attn1.to_{x}" for x in "qk")


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) <= 4
    return said.err


def lora(folder: Path, **about: str) -> Path:
    """A file with a dead layer, one of no model, one of other sizes, and one that is right."""
    tensors = {}
    sizes = {QUERY: 64, "transformer_blocks.1.attn1.to_q": 64, "transformer_blocks.0.attn1.to_k": 8}
    for layer, dims in {**sizes, "transformer_blocks.0.attn9.to_q": 8}.items():
        tensors[f"{layer}.lora_A"] = np.ones((2, dims))
        tensors[f"{layer}.lora_B"] = np.full((dims, 2), 0.0 if ".1." in layer else 0.5)
    return save(folder, tensors, about, name="mine")


def test_inspect_says_what_a_file_is(tmp_path, capsys):
    about = {"model_version": "2.0.0", "trigger": "ohwx", "reference_downscale_factor": "2"}
    main(["inspect", str(lora(tmp_path, **about))])
    said = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in said.splitlines()[:5])
    assert lines["what"].startswith("LoRA on 4 layers, ")
    assert lines["keys"] == "*.lora_A, *.lora_B"
    assert lines["rank"] == "2"
    assert "made for    2.0.0" in said
    assert "trigger     ohwx" in said
    assert "references  2 times smaller, 1 times slower" in said
    assert re.search(r"\npicture self-attention +0-1 +3 +2 +64\.5 +64\n", said)
    assert re.search(r"\nunmatched +0 +1 +2 +8 +8\n", said)
    assert f"1 of 4 layers do nothing, all zero: {QUERY.replace('.0.', '.1.')}" in said
    assert "1 of 4 layers are no layers of LTX-2: transformer_blocks.0.attn9.to_q" in said


def test_inspect_says_whether_it_fits(tiny, tmp_path, capsys):
    path = str(lora(tmp_path, model_version="2.0.0"))
    main(["inspect", path, "--model", "tiny"])
    said = capsys.readouterr().out.splitlines()
    assert said[-3].startswith("made for 2.0.0 by its metadata, and this model is LTX-2.3")
    assert said[-2].endswith("LTX-2.3: 2 of 4 layers fit, 1 unmatched, 1 of other sizes")
    assert said[-1].startswith("transformer_blocks.0.attn1.to_k: (8, 8) in the file, (64, 64) in")


def test_inspect_measures_against_what_makes_up_for_few_bits_too(tmp_path, capsys):
    checkpoint = written(tmp_path / "compensated")
    weight = float_weight(dict(load_transformer(checkpoint, dtype=mx.float32).named_modules())[KEY])
    A, B = mx.ones((1, weight.shape[1])), mx.ones((weight.shape[0], 1))
    path = save(tmp_path, {f"{KEY}.lora_A": A, f"{KEY}.lora_B": B}, {})
    main(["inspect", str(path), "--model", str(checkpoint.path), "--json"])
    (share,) = json.loads(capsys.readouterr().out)["model"]["share_of_weight"].values()
    assert share == pytest.approx(weight.size**0.5 / mx.linalg.norm(weight).item(), rel=1e-3)


def test_inspect_as_json(tiny, capsys):
    main(["inspect", str(ADAPTER), "--model", "tiny", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["ranks"] == {"4": 10}
    assert found["written_as"]["lora_A"] == "diffusion_model.*.lora_A.weight"
    assert found["model"]["matched"] == 10
    assert found["model"]["unmatched"] == found["model"]["misshapen"] == []
    part = next(part for part in found["parts"] if part["name"] == "picture feed-forward")
    key = f"model.diffusion_model.{part['largest_at']}.weight"
    (weight,) = TensorFile(Path(found["model"]["file"])).tensors("", [key]).values()
    share = part["largest"] / mx.linalg.norm(weight.astype(mx.float32)).item()
    assert found["model"]["share_of_weight"][part["name"]] == pytest.approx(share, rel=1e-5)


def test_inspect_on_a_terminal_is_a_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main(["inspect", str(ADAPTER)])
    said = capsys.readouterr().out
    assert "changes" in said
    assert "│" in said or "|" in said


@pytest.mark.parametrize("form", ["ours", "comfyui", "diffusers"])
def test_convert_writes_what_can_be_read(form, tmp_path, capsys):
    output = tmp_path / "new" / "out.safetensors"
    main(["convert", str(ADAPTER), "--output", str(output), "--to", form])
    assert capsys.readouterr().out == f"{output}: 10 layers, {form}\n"
    assert len(read_lora(output).entries) == 10


def test_convert_repairs(tmp_path, capsys):
    tensors = {}
    for number in range(LAYERS):
        at = f"transformer_blocks.{number}.attn1.to_q"
        tensors[f"{at}.lora_A"] = written_as_it_lies(trained(number))
        tensors[f"{at}.lora_B"] = np.ones((8, RANK))
    path = save(tmp_path, tensors, {})
    main(["convert", str(path), "--output", str(tmp_path / "as-it-is.safetensors")])
    assert "its factors look scrambled" in capsys.readouterr().err
    main(["convert", str(path), "--output", str(tmp_path / "b.safetensors"), "--repair"])
    assert capsys.readouterr().err == ""
    assert not read_lora(tmp_path / "b.safetensors").scrambled


def test_convert_refuses(tmp_path, capsys):
    same = tmp_path / "a.safetensors"
    same.write_bytes(ADAPTER.read_bytes())
    assert "is the file that is read" in refused(capsys, "convert", same, "--output", same)
    assert "ends in .safetensors" in refused(capsys, "convert", same, "--output", tmp_path / "b")
    for words in (("inspect",), ("convert", same), ("convert", same, "--to", "x"), ("other",), ()):
        assert refused(capsys, *words).startswith("ltx-lora: ")
    assert "inspect nowhere: no such file" in refused(capsys, "inspect", "nowhere")
    assert same.read_bytes() == ADAPTER.read_bytes()
