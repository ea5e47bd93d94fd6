"""ltx-lora fuse: into float weights, and into weights that are quantised already."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from ltx_infer.lora_cli import main
from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.requantise import fuse_folder
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength, fuse
from ltx_models.lora.files import read_lora
from ltx_models.quantize import quantization
from ltx_models.transformer import load_transformer
from ltx_models.weights import TensorFile, save_tensors
from tests.conftest import GOLDEN
from tests.models.compensate.test_linear import written
from tests.models.lora.families import save
from tests.models.lora.loras import weights

SOURCE = GOLDEN / "ltx2.3-tiny.safetensors"
ADAPTER = GOLDEN / "lora-comfy-ltx23.safetensors"
VIDEO = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
KEYS = "transformer_blocks.0.attn1.to_k"
QUERY, NORM = "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.q_norm"


@pytest.fixture(scope="module")
def quantised(tmp_path_factory) -> Path:
    """A folder in 4 bits of several files, as a large one has."""
    folder = tmp_path_factory.mktemp("q") / "quantised"
    convert(ConvertRequest(SOURCE, folder, how=quantization(4), largest_file=100_000))
    return folder


def fused(*words: object) -> None:
    main(["fuse", *map(str, words)])


def files_of(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def exit_code(*words: object) -> object:
    try:
        return fused(*words)
    except SystemExit as end:
        return end.code


def model_of(path: Path):
    return load_transformer(open_checkpoint(path), dtype=mx.float32)


def assert_same(got: nn.Module, want: nn.Module) -> None:
    got_weights, want_weights = weights(got), weights(want)
    assert got_weights.keys() == want_weights.keys()
    for key, value in want_weights.items():
        assert mx.array_equal(got_weights[key], value), key


@pytest.mark.parametrize("audio", [None, 0.5])
def test_a_quantised_folder_has_what_fusing_in_memory_gives(audio, quantised, tmp_path, capsys):
    words = [3.0] if audio is None else [3.0, audio]
    fused("--model", quantised, "--lora", ADAPTER, *words, "--output", tmp_path / "out")
    said = capsys.readouterr()
    assert "LoRA fused into 10 quantised layers: kept 1.00, error 0." in said.err
    assert said.out.startswith(f"{tmp_path / 'out'}: ")
    want = model_of(quantised)
    fuse(want, [(read_lora(ADAPTER), Strength(3.0, audio))])
    assert_same(model_of(tmp_path / "out"), want)
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert about["loras"] == [{"name": ADAPTER.name, "strength": 3.0, "audio_strength": audio}]
    assert about["conversion"] != json.loads((quantised / "config.json").read_text())["conversion"]
    assert (
        "fused into the quantised weights at strength 3, kept 1.00"
        in (tmp_path / "out" / "README.md").read_text()
    )
    files = {path.relative_to(quantised) for path in quantised.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(tmp_path / "out")
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    copied = min((quantised / "vocoder").glob("*.safetensors")).relative_to(quantised)
    assert (tmp_path / "out" / copied).read_bytes() == (quantised / copied).read_bytes()


def test_a_compensated_folder_too_where_dora_has_norms_of_all_of_it(tmp_path, capsys):
    source, output = tmp_path / "compensated", tmp_path / "out"
    rows, columns = written(source).file.infos[f"model.diffusion_model.{KEYS}.weight"].shape
    draw = np.random.default_rng(0)
    dora = {
        f"{KEYS}.lora_A": draw.normal(size=(2, columns * 8)),
        f"{KEYS}.lora_B": draw.normal(size=(rows, 2)),
        f"{KEYS}.dora_scale": draw.uniform(1, 2, size=(rows, 1)),
    }
    adapter = save(tmp_path, dora, {})
    fused("--model", source, "--lora", adapter, "--output", output, "--fuse-anyway")
    assert "fused into 1 quantised layers" in capsys.readouterr().err
    want = model_of(source)
    fuse(want, [(read_lora(adapter), Strength())], anyway=True)
    assert_same(model_of(output), want)


def test_too_little_is_refused_unless_told(quantised, tmp_path, capsys):
    words = ["--model", quantised, "--lora", ADAPTER, 0.001, "--output", tmp_path / "out"]
    with pytest.raises(SystemExit) as caught:
        fused(*words)
    assert caught.value.code == 2
    assert "--lora-fuse-anyway goes on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for mode, code in ((quantization(4), None), (quantization(8), 2)):
        learnt = {"quantization_aware": "true", "base_quantization": str(mode)}
        adapter = tmp_path / f"learnt-{mode.bits}.safetensors"
        save_tensors(adapter, TensorFile(ADAPTER).tensors("", TensorFile(ADAPTER).infos), learnt)
        output = tmp_path / f"out-{mode.bits}"
        words[3:] = [adapter, 0.001, "--output", output]
        assert exit_code(*words) == code
        warned = f"trained to be fused into {mode}; otherwise" in capsys.readouterr().err
        assert warned is (code == 2)
        assert output.exists() is (code is None)
    words[3:] = [ADAPTER, 0.001, "--output", tmp_path / "out"]
    fused(*words, "--fuse-anyway")
    assert model_of(tmp_path / "out")
    with pytest.raises(SystemExit):
        fused(*words, "--fuse-anyway")
    assert "is not empty; name another folder" in capsys.readouterr().err


def test_one_that_was_stopped_is_written_again(quantised, tmp_path, capsys):
    asked = ConvertRequest(
        quantised, tmp_path / "out", loras=((read_lora(ADAPTER), Strength(3.0)),)
    )

    def stop(stage: str, done: int, _total: int) -> None:
        if stage.startswith("transformer/") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse_folder(open_checkpoint(quantised), asked, anyway=False, say=print, report=stop)
    assert not (tmp_path / "out" / "transformer" / "config.json").exists()
    begun = ["--model", quantised, "--output", tmp_path / "out", "--lora", ADAPTER]
    assert exit_code(*begun, 2) == 2  # another request
    assert "is not empty; name another folder" in capsys.readouterr().err
    fused(*begun, 3)
    fused("--model", quantised, "--output", tmp_path / "whole", "--lora", ADAPTER, 3)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert exit_code(*begun, 3) == 2  # it is whole


def test_biases_norms_and_the_text_path_too(quantised, tmp_path):
    draw = np.random.default_rng(0)
    file = open_checkpoint(quantised).file
    at = "model.diffusion_model."
    shapes = {path: file.infos[f"{at}{path}"].shape for path in (f"{QUERY}.bias", f"{NORM}.weight")}
    rows, columns = file.infos[f"{at}{VIDEO}.weight"].shape
    tensors = {
        f"{QUERY}.diff_b": draw.normal(size=shapes[f"{QUERY}.bias"]),
        f"{NORM}.diff": draw.normal(size=shapes[f"{NORM}.weight"]),
        f"{VIDEO}.lora_A": draw.normal(size=(2, columns)),
        f"{VIDEO}.lora_B": draw.normal(size=(rows, 2)),
    }
    adapter = save(tmp_path, tensors, {})
    output = tmp_path / "out"
    fused("--model", quantised, "--lora", adapter, "--output", output, "--variant", "dev")
    after = open_checkpoint(output).file
    wanted = {
        f"{QUERY}.bias": tensors[f"{QUERY}.diff_b"],
        f"{NORM}.weight": tensors[f"{NORM}.diff"],
        f"{VIDEO}.weight": tensors[f"{VIDEO}.lora_B"] @ tensors[f"{VIDEO}.lora_A"],
    }
    keys = list(file.infos)
    old, new = file.tensors("", keys), after.tensors("", keys)
    for key in keys:
        change = wanted.get(key.removeprefix(at))
        if change is None:
            assert mx.array_equal(new[key], old[key]), key
        else:
            got = np.array(new[key].astype(mx.float32)) - np.array(old[key].astype(mx.float32))
            assert np.allclose(got, change, rtol=0.02, atol=0.02), key
    assert json.loads((output / "config.json").read_text())["variant"] == "dev"


def test_float_weights_are_converted_with_it(tmp_path, capsys):
    output = tmp_path / "out"
    fused("--model", SOURCE, "--lora", ADAPTER, 0.5, "--output", output)
    want = model_of(SOURCE)
    fuse(want, [(read_lora(ADAPTER), Strength(0.5))])
    for key, value in weights(model_of(output)).items():
        assert mx.allclose(value, weights(want)[key], rtol=0.01, atol=0.01), key
    with pytest.raises(SystemExit):
        fused("--model", SOURCE, "--lora", ADAPTER, "--output", tmp_path / "b", "--fuse-anyway")
    assert "these weights are not quantised, and keep all of it" in capsys.readouterr().err


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        fused(*words, "--lora", ADAPTER)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_places_that_will_not_do(quantised, tmp_path, monkeypatch, capsys):
    inside = quantised / "fused"
    said = refused(capsys, "--model", quantised, "--output", inside)
    assert f"--output {inside}: lies in the source; name another folder" in said
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    said = refused(capsys, "--model", quantised, "--output", tmp_path / "out")
    assert "are to be written, and 1.0 MB are free there. Nothing was written" in said
    assert not (tmp_path / "out").exists()
    assert not inside.exists()


def test_a_folder_of_another_layout(quantised, tmp_path, capsys):
    source = open_checkpoint(quantised)
    (quantised / "config.json").rename(quantised / "config.json.away")
    request = ConvertRequest(quantised, tmp_path / "out", loras=((read_lora(ADAPTER), Strength()),))
    try:
        with pytest.raises(UserError, match="is quantised, and not in the layout that ltx-convert"):
            fuse_folder(source, request, anyway=False, say=print, report=print)
    finally:
        (quantised / "config.json.away").rename(quantised / "config.json")
    assert not (tmp_path / "out").exists()
