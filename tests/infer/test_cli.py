"""Bad input: exit code 2, at most four lines that name the thing, no traceback, nothing left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_infer.cli import main
from ltx_infer.command import run_command
from ltx_infer.config import build
from ltx_models.weights import TensorFile

BLOCK = "model.diffusion_model.transformer_blocks.0.attn1."


def run(capsys: pytest.CaptureFixture, *words: str) -> str:
    """What the command says on stderr when it ends with exit code 2."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("ltx-generate: ")
    assert len(said.splitlines()) <= 4
    assert "Traceback" not in said
    return said


@pytest.fixture
def generate(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def generate(*words: str) -> str:
        before = sorted(tmp_path.iterdir())
        said = run(capsys, "--prompt", "a red boat", *words)
        assert sorted(tmp_path.iterdir()) == before
        return said

    return generate


@pytest.mark.parametrize(
    ("words", "corrected"),
    [
        (["--width", "511"], "--width 512"),
        (["--width=511", "--audio"], "--width 512 --audio"),
        (["-W511", "-H", "300"], "-W 512 -H 320"),
        (["--frames", "34"], "--frames 33"),
        (["-n", "34", "-W", "100"], "-n 33 -W 128"),
    ],
)
def test_sizes_are_answered_with_the_corrected_command(generate, words, corrected):
    said = generate("--model", "tiny", *words)
    assert said.splitlines()[-1] == (f"ltx-generate --prompt 'a red boat' --model tiny {corrected}")


def test_several_faults_are_corrected_at_once(generate):
    said = generate("--model", "tiny", "--width", "511", "--num-frames", "34")
    assert "--width 511 is not a multiple of 64; --num-frames 34 is not a multiple of 8" in said
    assert said.splitlines()[-1].endswith("--width 512 --num-frames 33")


def test_words_that_are_left_over(capsys):
    assert "--prompt 'a red boat'" in run(capsys, "a", "red", "boat")
    assert "--audio-file song.wav" in run(capsys, "-p", "x", "--audio", "song.wav")
    assert "--audio-file song.wav" in run(capsys, "--audio", "song.wav")


def test_no_prompt(capsys):
    assert "--prompt is required" in run(capsys, "--model", "tiny")


def test_missing_file(generate):
    assert "--model gone.safetensors: no such file" in generate("--model", "gone.safetensors")


def test_text_file_as_checkpoint(generate, tmp_path):
    (tmp_path / "a.safetensors").write_text("not weights")
    assert "a.safetensors: not a complete safetensors file" in generate("--model", "a.safetensors")


@pytest.mark.parametrize("ending", ["out.avi", "out", "gone/out.mp4"])
def test_output_that_cannot_be_written(generate, tiny, ending):
    assert ending in generate("--model", "tiny", "-o", ending)


@pytest.fixture
def broken(tiny, tmp_path):
    """A folder like the stand-in's with another checkpoint in it."""

    def write(change) -> str:
        folder = tmp_path / "model"
        folder.mkdir()
        for path in tiny.iterdir():
            if path.name != "ltx-2.3-tiny.safetensors":
                (folder / path.name).symlink_to(path)
        file = TensorFile(tiny / "ltx-2.3-tiny.safetensors")
        tensors, metadata = file.tensors("", file.infos), dict(file.metadata)
        target = folder / "ltx-2.3-tiny.safetensors"
        change(tensors, metadata)
        mx.save_safetensors(str(target), tensors, metadata)
        return str(folder)

    return write


def remove(tensors, metadata):
    del tensors[f"{BLOCK}to_q.weight"]


def rename(tensors, metadata):
    tensors[f"{BLOCK}to_query.weight"] = tensors.pop(f"{BLOCK}to_q.weight")


def misshape(tensors, metadata):
    tensors["vae.decoder.conv_in.conv.bias"] = mx.zeros(3)


def stray(tensors, metadata):
    tensors["vocoder.extra"] = mx.zeros(3)


def unknown_key(tensors, metadata):
    config = json.loads(metadata["config"])
    config["transformer"]["use_magic"] = True
    metadata["config"] = json.dumps(config)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (remove, ["missing: model.diffusion_model.transformer_blocks.0.attn1.to_q.weight"]),
        (rename, ["transformer_blocks.0.attn1.to_q.weight", "attn1.to_query.weight"]),
        (misshape, ["conv_in.conv.bias: (3,) in the file, (64,) would fit"]),
        (stray, ["unknown: vocoder.extra"]),
        (unknown_key, ["config.transformer.use_magic", "--allow-unknown-config use_magic"]),
    ],
)
def test_checkpoint_that_does_not_fit(generate, broken, change, names):
    said = generate("--model", broken(change), "--audio")
    assert all(name in said for name in names), said


def test_truncated_checkpoint(generate, broken):
    folder = broken(lambda *_: None)
    path = Path(folder, "ltx-2.3-tiny.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    assert "not a complete safetensors file" in generate("--model", folder)


def test_a_blas_that_cannot_be_loaded():
    done = subprocess.run(
        [sys.executable, "-c", "from ltx_infer.cli import main; main(['-p', 'x', '--model', 'x'])"],
        env={**os.environ, "LTX_BLAS": "/gone/libblas.so"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    # Elsewhere there is nothing to replace, and only the model is missing.
    assert ("LTX_BLAS=/gone/libblas.so" in done.stderr) == (sys.platform == "linux")


def test_help_imports_nothing_heavy():
    """Asserted by what is imported, not by the clock."""
    heavy = ["mlx", "mlx.core", "av", "transformers", "librosa", "numpy", "pydantic", "rich"]
    code = (
        "import sys\n"
        "from ltx_infer.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert "--prompt" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "a \udcff"), r"--prompt 'a \udcff': is no text in UTF-8"),
        (("-p", "a", "-o", "\udcff.mp4"), r"--output-path '\udcff.mp4': the name is no text"),
        (("-p", "a", "-i", "\udcff.png"), r"--image PATH '\udcff.png': the name is no text in"),
    ],
)
def test_bytes_that_are_no_text(capsys, words, said):
    assert said in run(capsys, "--model", "tiny", *words)


def test_text_that_a_terminal_of_another_encoding_passes_on():
    assert build({"prompt": "Flu\udcc3\udc9f"}).prompt == "Fluß"


def test_where_nobody_reads_on_there_is_no_traceback():
    """A pipe whose other end is closed before the command writes into it."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "from ltx_infer.cli import main; main()"
    words = ["--model", "tiny", "-p", "x", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "ltx-generate: nobody reads on\n")


def test_what_a_gpu_says_is_explained(capsys):
    def fail() -> None:
        error = RuntimeError(
            "[METAL] Command buffer execution failed: Impacting Interactivity "
            "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
        )
        error.add_note("To decode the latents: ltx-generate --decode-only a.safetensors")
        raise error

    with pytest.raises(SystemExit) as end:
        run_command("ltx-generate", fail)
    assert end.value.code == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("ltx-generate: macOS stopped the GPU")
    assert "caffeinate" in second
    assert third.startswith("To decode the latents: ")
