"""What is said of files that no program writes: one row for each thing that is looked for."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.config import ConfigError, parse_object
from ltx_models.errors import UserError, printable
from ltx_models.lora.about import made_for
from ltx_models.lora.files import read_lora
from ltx_models.tiny.sizes import CHECKPOINT
from ltx_models.transformer.config import TransformerConfig
from ltx_models.video_vae import VideoVAEConfig
from ltx_models.weights import MOST_TENSORS, TensorFile, WeightsError, read_lazily
from tests.models.fuzz.raw import Raw, blob_of, joined, raw

AT = "diffusion_model.transformer_blocks.0.attn1.to_q"
PAIR = {f"{AT}.lora_A.weight": raw(np.ones((2, 64))), f"{AT}.lora_B.weight": raw(np.ones((64, 2)))}
EMPTY = Raw("F32", (0,), b"")


def written(folder: Path, tensors, metadata=None, *, name: str = "a") -> Path:
    path = folder / f"{name}.safetensors"
    path.write_bytes(blob_of(tensors, metadata))
    return path


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a\nb": EMPTY}, r"a tensor's name is no name of a layer: a\nb"),
        ({"x" * 301: EMPTY}, f"a tensor's name is no name of a layer: {'x' * 60}..."),
        ({"a": EMPTY._replace(shape=(0, 2**32))}, "a has the shape (0, 4294967296)"),
        ({"a": raw(np.ones([1] * 9))}, "a has the shape (1, 1, 1, 1, 1, 1, 1, 1, 1)"),
    ],
)
def test_a_header(tmp_path, tensors, told):
    path = written(tmp_path, tensors)
    with pytest.raises(WeightsError) as error:
        TensorFile(path)
    assert str(error.value) == f"{path}: {told}"


def test_too_many_tensors(tmp_path):
    path = written(tmp_path, {str(number): EMPTY for number in range(MOST_TENSORS + 1)})
    with pytest.raises(WeightsError, match="50001 tensors; 50000 at most are read"):
        TensorFile(path)


def test_a_header_that_two_readers_read_differently(tmp_path):
    """A list in place of an object, which safetensors takes and MLX does not."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(joined(b'{"a": ["F32", [1], [0, 4]]}', bytes(4)))
    assert TensorFile(path).keys("") == ["a"]
    with pytest.raises(WeightsError, match="not a safetensors file that can be read: "):
        read_lazily(path)


def test_a_message_of_any_text_has_one_line():
    assert printable("a\nb\x1b\u2028\ud800é ") == r"a\nb\x1b\u2028\ud800é "
    assert printable("x" * 1000, longest=3) == "xxx..."


PEFT = "lora_adapter_metadata"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"lora_alpha": float("nan")}, "an alpha or a rank in it is no number"),
        ({"lora_alpha": 10**400}, "an alpha or a rank in it is no number"),
        ({"lora_alpha": 1, "r": -1}, "an alpha or a rank in it is no number"),
        ({"lora_alpha": 1, "use_rslora": "false"}, "use_rslora is 'false', not true or false"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "the pattern '(a+)+b' is more than the name of a layer"),
        ({"alpha_pattern": {".*.*.*": 1}}, "the pattern '.*.*.*' is more than the name of a layer"),
        ({"alpha_pattern": {"*": 1}}, "'*' is no pattern: nothing to repeat"),
    ],
)
def test_peft_s_words(tmp_path, said, told):
    path = written(tmp_path, PAIR, {PEFT: json.dumps(said)})
    with pytest.raises(UserError) as error:
        read_lora(path)
    assert str(error.value).startswith(f"{path}: its metadata's {PEFT}: {told}")


@pytest.mark.parametrize(
    ("alpha", "dtype", "told"),
    [
        (1, "BOOL", "alpha is BOOL, not a number"),
        (1, "C64", "alpha is C64, not a number"),
        (2e12, "F32", "alpha is 2e+12, which is no alpha"),
    ],
)
def test_an_alpha_that_is_none(tmp_path, alpha, dtype, told):
    path = written(tmp_path, {**PAIR, f"{AT}.alpha": raw(alpha, dtype)})
    with pytest.raises(UserError) as error:
        read_lora(path)
    assert str(error.value) == f"{path}: {AT}.{told}"


@pytest.mark.parametrize("dtype", ["F8_E4M3", "U8", "I64", "BF16"])
def test_an_alpha_of_any_type_is_its_number(tmp_path, dtype):
    path = written(tmp_path, {**PAIR, f"{AT}.alpha": raw(8, dtype)})
    (entry,) = read_lora(path).entries.values()
    assert (entry.alpha, entry.scale) == (8, 4)


def test_a_scale_of_mlx_lm_that_is_none(tmp_path):
    keys = {f"{AT}.lora_a": raw(np.ones((64, 2))), f"{AT}.lora_b": raw(np.ones((2, 64)))}
    (tmp_path / "adapter_config.json").write_text('{"lora_parameters": {"scale": Infinity}}')
    with pytest.raises(UserError, match=r"lora_parameters\.scale is inf, not a number"):
        read_lora(written(tmp_path, keys))


def test_a_factor_of_many_digits(tmp_path):
    path = written(tmp_path, PAIR, {"reference_downscale_factor": "1" * 400})
    with pytest.raises(UserError, match=r"reference_downscale_factor is '1+\.\.\.; 1, 2, 3, ..."):
        read_lora(path)


def test_a_version_of_many_digits_is_none():
    assert made_for({"model_version": "9" * 5000}) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("[" * 65 + "]" * 65, "more than 64 levels"), ("[" * 10**5, "maximum recursion depth")],
)
def test_json_that_is_too_deep(text, told):
    with pytest.raises(ConfigError, match=f"x is not JSON: {told}"):
        parse_object(text, at="x")


def vae(**changes) -> dict:
    return {**CHECKPOINT["vae"], **changes}


def audio_vae(**changes) -> dict:
    config = json.loads(json.dumps(CHECKPOINT["audio_vae"]))
    config["model"]["params"]["ddconfig"] |= changes
    return config


@pytest.mark.parametrize(
    ("cls", "data", "told"),
    [
        (TransformerConfig, {"num_layers": 201}, "config.num_layers: Input should be less than"),
        (TransformerConfig, {"a": [2**21]}, "config.a.0 is no number from -1048576 to 1048576"),
        (TransformerConfig, {"norm_eps": float("nan")}, "config.norm_eps is no number from"),
        (TransformerConfig, {"a\nb": 1}, r"config.a\nb: unknown key; "),
        (VideoVAEConfig, vae(encoder_blocks=[["res_x", 101]] * 2), "202 layers in all; at most"),
        (
            VideoVAEConfig,
            vae(encoder_blocks=[["res_x_y", {"multiplier": 1000}]] * 3),
            "its widest layer has 16000000000 channels; 1048576 at most",
        ),
        (AudioVAEConfig, audio_vae(ch=2**20), "channels; 1048576 at most"),
    ],
)
def test_sizes_that_no_network_has(cls, data, told):
    with pytest.raises(ConfigError) as error:
        cls.read(data)
    assert told in str(error.value)


COMMANDS = {
    "name of two lines": ({"a\nb.lora_A.weight": PAIR[f"{AT}.lora_A.weight"]}, None),
    "half a pair": ({f"{AT}.lora_A.weight": PAIR[f"{AT}.lora_A.weight"]}, None),
    "NaN": ({**PAIR, f"{AT}.alpha": raw(float("nan"))}, None),
    "metadata that is a number": (PAIR, {"a": 1}),
    "a type of nobody": ({**PAIR, "a": raw([1.0], "X7")}, None),
    "no tensor": ({}, None),
    "other sizes": ({**PAIR, f"{AT}.lora_B.weight": raw(np.ones((63, 2)))}, None),
}


@pytest.mark.parametrize(("tensors", "metadata"), COMMANDS.values(), ids=COMMANDS)
def test_by_the_command(tiny, tmp_path, monkeypatch, capsys, tensors, metadata):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, tensors, metadata)
    size = ("-H", "64", "-W", "64", "-n", "9")
    with pytest.raises(SystemExit) as end:
        main(["--model", "tiny", "-p", "a boat", *size, "--lora", "a.safetensors"])
    out, said = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert said.startswith("ltx-generate: ")
    assert "a.safetensors" in said
    assert len(said.splitlines()) <= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


def test_no_header_makes_an_array(tmp_path):
    """Sides whose product is beyond the file are refused before anything is made of them."""
    path = tmp_path / "a.safetensors"
    for shape in ([2**40], [2**20, 2**20], [2**63, 2]):
        about = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
        path.write_bytes(joined(json.dumps({"a": about}).encode(), bytes(4)))
        before = mx.get_active_memory()
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            TensorFile(path)
        assert mx.get_active_memory() == before
