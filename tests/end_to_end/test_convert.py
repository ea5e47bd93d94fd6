"""ltx-convert as a person runs it: what it says, what it leaves, and that it can be killed."""

import json
import os
import subprocess
import sys
import time

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer import cli, convert_cli
from ltx_models.checkpoint import open_checkpoint
from ltx_models.lora.files import read_lora
from ltx_models.tiny import CHECKPOINT, NUM_FEATURES, networks, shared_key
from ltx_models.weights import torch_shapes
from tests.end_to_end.conftest import read_clip
from tests.full_size import metadata_of, write_empty

WIDE = {  # of a transformer of 2 GB
    "num_layers": 52,
    "num_attention_heads": 16,
    "attention_head_dim": 64,
    "cross_attention_dim": 1024,
    "audio_num_attention_heads": 16,
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": 256,
    "audio_connector_num_attention_heads": 16,
    "audio_connector_attention_head_dim": 16,
    "connector_num_attention_heads": 16,
    "connector_attention_head_dim": 64,
}
LORA = "ltx-2.3-tiny-distilled-lora-4.safetensors"


def run(*words: object) -> None:
    convert_cli.main([str(word) for word in words])


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as error:
        run(*words)
    assert error.value.code == 2
    said = capsys.readouterr().err.removeprefix("ltx-convert: ").rstrip()
    assert len(said.splitlines()) <= 4
    return said.splitlines()[-1]


def clip(path, model, gemma):
    words = ["-p", "waves", "-H", "64", "-W", "64", "-n", "9", "--audio", "--seed", "7"]
    cli.main(["--model", str(model), *words, "--text-encoder-repo", str(gemma), "-o", str(path)])
    return read_clip(path)


@pytest.mark.slow
def test_a_clip_of_the_folder_is_that_of_the_checkpoint(tiny, tmp_path):
    run("--source", tiny, "--output", tmp_path / "folder")
    wanted, got = (
        clip(tmp_path / f"{name}.mp4", model, tiny / "gemma-3-tiny")
        for name, model in (("a", tiny), ("b", tmp_path / "folder"))
    )
    assert (got.frames == wanted.frames).all()
    assert (got.sound == wanted.sound).all()


def test_a_plan_writes_nothing(tiny, tmp_path, capsys):
    run("--source", tiny, "--output", tmp_path / "folder", "-q", "4", "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    how = "affine 4 bit, groups of 32"
    assert lines[0] == f"{how}: 168 layers quantised, 406 tensors kept as they are"
    assert lines[1] == f"{tiny / 'ltx-2.3-tiny.safetensors'} to {tmp_path / 'folder'}"
    assert lines[2].startswith("  transformer/: 1 file, ")
    assert "  upscalers/: 3 files, 1.2 MB" in lines
    assert lines[-1].startswith("memory: ")
    assert list(tmp_path.iterdir()) == []


def test_the_distilled_lora_makes_it_distilled(tiny, tmp_path, capsys):
    run("--source", tiny, "--output", tmp_path, "--lora", tiny / LORA, "1.0", "--mode", "mxfp4")
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["variant"] == "distilled"
    assert about["loras"] == [{"name": LORA, "strength": 1.0, "audio_strength": None}]
    assert not (tmp_path / "lora").exists()
    checkpoint = open_checkpoint(tmp_path)
    assert {how.mode for how in checkpoint.quantization.values()} == {"mxfp4"}
    said = capsys.readouterr().err
    assert "variant distilled, as the distilled LoRA is fused; --variant says otherwise" in said
    num_layers = len(read_lora(tiny / LORA).entries)
    assert f"{LORA}: for {num_layers} layers, strength 1" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-q", "7"], "affine quantisation has 2, 3, 4, 5, 6, 8 bits, not 7"),
        (["-q", "8", "--mode", "mxfp4"], "mxfp4 has 4 bits in groups of 32, no other"),
        (["--group-size", "32"], "--group-size: for -q BITS or --mode"),
        (["--lora", "x", "1", "2", "3"], "--lora x: a strength and one for sound at most"),
        (["--lora-allow-unmatched"], "--lora-allow-unmatched: for a --lora PATH"),
        (["--text-encoder-repo", "x"], "--text-encoder-repo: for --compensate RANK"),
        (["--quantise", "4"], "unrecognized arguments: --quantise 4"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_wrong_requests(tmp_path, capsys, words, said):
    output = tmp_path / "out"
    assert said in refused(capsys, "--source", "tiny", "--output", output, *words)
    assert not output.exists()


def test_a_source_that_is_not_there(tmp_path, capsys):
    said = refused(capsys, "--source", tmp_path / "none.safetensors", "--output", tmp_path / "out")
    assert said.startswith(f"--source {tmp_path / 'none.safetensors'}: no such file or folder")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A monolith of 2 GB, of zeros."""
    config = {**CHECKPOINT, "transformer": {**CHECKPOINT["transformer"], **WIDE}}
    shapes = {
        shared_key(prefix + key): shape
        for prefix, network in networks(config, num_features=NUM_FEATURES).items()
        for key, shape in torch_shapes(network).items()
    }
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    write_empty(path, shapes, metadata_of(config))
    assert path.stat().st_size > 2e9
    return path


MEASURE = """
import resource, sys
from pathlib import Path
import ltx_models
from ltx_models.converted.write import convert
from ltx_models.converted.request import ConvertRequest
from ltx_models.quantize import quantization
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
how = quantization(int(sys.argv[3])) if sys.argv[3] != "0" else None
convert(ConvertRequest(Path(sys.argv[1]), Path(sys.argv[2]), how=how, largest_file=3 * 10**8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)
"""


def command(source, output, bits):
    return [sys.executable, "-c", MEASURE, str(source), str(output), str(bits)]


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 4])
def test_memory_does_not_grow_with_the_file(wide, tmp_path, bits):
    done = subprocess.run(
        command(wide, tmp_path / "out", bits), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    largest = max(np.prod(info.shape) * 2 for info in open_checkpoint(wide).file.infos.values())
    assert int(done.stdout) < largest + 1e9


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes(wide, tmp_path):
    subprocess.run(command(wide, tmp_path / "whole", 4), check=True, env=environment())
    rng, kills = np.random.default_rng(0), 0
    for _ in range(5):
        process = subprocess.Popen(command(wide, tmp_path / "out", 4), env=environment())
        time.sleep(rng.uniform(2, 6))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills > 0
    subprocess.run(command(wide, tmp_path / "out", 4), check=True, env=environment())
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")]
    assert len(list((tmp_path / "out").rglob("*"))) == len(files)
    for name in files:
        one, other = tmp_path / "whole" / name, tmp_path / "out" / name
        assert one.is_dir() or one.read_bytes() == other.read_bytes(), name
    assert mx.load(str(next((tmp_path / "out/transformer").glob("*.safetensors"))))
