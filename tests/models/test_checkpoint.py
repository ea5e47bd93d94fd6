import json
import re

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from ltx_models.checkpoint import open_checkpoint, parse_version
from ltx_models.config import ConfigError
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.video_vae import load_video_decoder
from ltx_models.weights import TensorFile, WeightsError
from tests.conftest import GOLDEN

BLOCKS = "model.diffusion_model.transformer_blocks."
TINY = GOLDEN / "ltx2.3-tiny.safetensors"


@pytest.fixture
def edited(tmp_path):
    """Write the golden LTX-2.3 checkpoint with changed tensors or configuration."""

    def edit(tensors=None, *, config=None, drop=(), metadata=None):
        file = TensorFile(TINY)
        weights = {**file.tensors("", [k for k in file.infos if k not in drop]), **(tensors or {})}
        told = json.loads(file.metadata["config"])
        for path, value in (config or {}).items():
            section, key = path.split(".")
            told[section] = {**told.get(section, {}), key: value}
        path = tmp_path / "edited.safetensors"
        given = {"config": json.dumps(told), "model_version": "2.3.0"}
        mx.save_safetensors(str(path), weights, given if metadata is None else metadata)
        return path

    return edit


def write(path, tensors, metadata=None):
    mx.save_safetensors(str(path), tensors, metadata or {})
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.3.0", (2, 3, 0)), ("2.3.rc1", (2, 3)), ("2.4-rc2", (2, 4)), ("", (2, 0)), ("x", (2, 0))],
)
def test_version(text, version):
    assert parse_version({"model_version": text}) == version


@pytest.mark.parametrize("text", ["2", "2.0", "2.3.rc1", "x"])
def test_versions_that_are_read(edited, text):
    path = edited(metadata={"config": TensorFile(TINY).metadata["config"], "model_version": text})
    assert open_checkpoint(path).version == parse_version({"model_version": text})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "2.4-rc2",
            r"LTX-2\.5 or later \(model_version 2\.4-rc2\); only LTX-2 and LTX-2\.3, whole",
        ),
        ("2.5.0", r"LTX-2\.5 or later \(model_version 2\.5\.0\)"),
        ("3", r"LTX-2\.5 or later \(model_version 3\)"),
        ("0.9.8", r"LTX-Video \(model_version 0\.9\.8\), which has no sound"),
    ],
)
def test_other_versions_are_refused(edited, text, kind):
    path = edited(metadata={"config": TensorFile(TINY).metadata["config"], "model_version": text})
    with pytest.raises(WeightsError, match=rf"edited\.safetensors: {kind}"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["duration_head.linear.weight", "vae.encoder.x"], r"LTX-2\.5 \(it has a duration_head\)"),
        (["model.diffusion_model.keyframes_abs_pos_embedding"], r"LTX-2\.5 \(it has keyframes_abs"),
        (
            ["model.diffusion_model.patchify_proj.weight", "vae.decoder.conv_in.conv.weight"],
            r"LTX-Video \(no tensor of it is for sound\)",
        ),
        (["encoder.x", "decoder.x", "per_channel_statistics.x"], r"a VAE in a file of its own"),
        (["transformer_blocks.0.attn1.to_q.weight"], r"a transformer in a file of its own"),
    ],
)
def test_files_of_other_models_are_called_by_their_name(tmp_path, keys, kind):
    path = write(tmp_path / "a.safetensors", {key: mx.zeros(2) for key in keys})
    with pytest.raises(WeightsError, match=rf"a\.safetensors: {kind}.*; only LTX-2 and LTX-2\.3"):
        open_checkpoint(path)


@pytest.mark.parametrize(("rows", "released"), [(9, LTX_2_3), (6, LTX_2)])
def test_released_sizes_are_recognised_without_metadata(tmp_path, rows, released):
    tensors = {
        f"{BLOCKS}{i}.scale_shift_table": mx.zeros((rows, 4096), mx.bfloat16) for i in range(48)
    }
    if rows == 9:
        gate = f"{BLOCKS}0.attn1.to_gate_logits.weight"
        tensors[gate] = mx.zeros((32, 4096), mx.bfloat16)
    checkpoint = open_checkpoint(write(tmp_path / "a.safetensors", tensors))
    config = checkpoint.section("transformer", TransformerConfig)
    assert config.connector_num_layers == released["transformer"]["connector_num_layers"]


def test_other_sizes_need_metadata(edited):
    with pytest.raises(ConfigError, match="metadata has no config, and its tensors have not"):
        open_checkpoint(edited(metadata={}))


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("num_layers", 3, 2),
        ("cross_attention_adaln", False, True),
        ("apply_gated_attention", False, True),
    ],
)
def test_configuration_that_contradicts_the_tensors(edited, key, value, found):
    path = edited(config={f"transformer.{key}": value})
    with pytest.raises(ConfigError, match=rf"{key} is {value}, its tensors have {found}"):
        open_checkpoint(path)


def test_unknown_key_is_named_and_can_be_allowed(edited):
    path = edited(config={"transformer.num_attention_head": 4})
    with pytest.raises(ConfigError) as error:
        open_checkpoint(path).section("transformer", TransformerConfig)
    assert str(error.value) == (
        "edited.safetensors: config.transformer.num_attention_head: unknown key; did you mean "
        "'num_attention_heads'? Otherwise --allow-unknown-config num_attention_head"
    )
    allowed = open_checkpoint(path, allow_unknown=["num_attention_head"])
    assert allowed.section("transformer", TransformerConfig).num_attention_heads == 4


def test_constant_with_another_value(edited):
    path = edited(config={"transformer.activation_fn": "silu"})
    with pytest.raises(ConfigError, match="activation_fn: 'silu', but only 'gelu-approximate' is"):
        open_checkpoint(path).section("transformer", TransformerConfig)


def test_unknown_section(edited):
    with pytest.raises(ConfigError, match="unknown sections duration_head; known are transformer"):
        open_checkpoint(edited(config={"duration_head.dim": 3}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"edited\.safetensors: its metadata's config is not JSON: "),
        ("[]", r"its metadata's config is not a JSON object, but \[\]$"),
        ('{"transformer": null}', r"config\.transformer is not a JSON object, but null$"),
        ('{"vae": [1]}', r"its metadata's config\.vae is not a JSON object, but \[1\]$"),
    ],
)
def test_configuration_that_is_no_object(edited, text, message):
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(edited(metadata={"config": text}))


def test_a_key_to_pass_over_must_be_there(edited):
    path = edited(config={"transformer.num_attention_head": 4})
    with pytest.raises(ConfigError) as error:
        open_checkpoint(path, allow_unknown=["num_attention_head", "num_atention_head"])
    assert str(error.value) == (
        "--allow-unknown-config num_atention_head: no section of the configuration of "
        f"{path} has this key; did you mean num_attention_head?"
    )
    open_checkpoint(path, allow_unknown=["ddconfig"])  # inside other sections


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sampler", "Uniform", "sampler: 'Uniform', but only 'LinearQuadratic' is computed here"),
        ("shifting", "SD3", "shifting: 'SD3', but only None"),
        ("_class_name", "DDIMScheduler", "_class_name: 'DDIMScheduler', but only 'RectifiedFlow"),
        ("eta", 1.0, "eta: unknown key; if it changes nothing, --allow-unknown-config eta"),
    ],
)
def test_scheduler(edited, key, value, message):
    path = edited(config={f"scheduler.{key}": value})
    with pytest.raises(ConfigError, match=f"config.scheduler.{message}"):
        open_checkpoint(path)
    open_checkpoint(edited(config={"scheduler.eta": 1.0}), allow_unknown=["eta"])


@pytest.mark.parametrize(
    "key", ["clip.weight", "vae.stray.weight", "audio_vae.encoders.x", "vae.per_channel.x"]
)
def test_tensor_of_no_network(edited, key):
    with pytest.raises(WeightsError, match=rf"belong to no network of LTX-2:\n{re.escape(key)}$"):
        open_checkpoint(edited({key: mx.zeros(2)}))


def test_another_kind_of_file(tmp_path):
    path = write(tmp_path / "unet.safetensors", {"unet.weight": mx.zeros(2)})
    with pytest.raises(WeightsError, match="not an LTX-2 checkpoint: no tensor is named"):
        open_checkpoint(path)


def test_missing_renamed_and_misshapen_tensors_are_named(edited):
    prefix = f"{BLOCKS}0.attn1."
    path = edited(
        {f"{prefix}to_queue.weight": mx.zeros((64, 64)), f"{prefix}to_k.bias": mx.zeros(3)},
        drop=[f"{prefix}to_q.weight"],
    )
    with pytest.raises(WeightsError) as error:
        load_transformer(open_checkpoint(path), dtype=mx.float32)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[1].endswith("attn1.to_k.bias: (3,) in the file, (64,) would fit")
    assert f"missing: {prefix}to_q.weight (the file has" in lines[2]
    assert f"unknown: {prefix}to_queue.weight (nearest" in lines[3]


def test_stray_tensor_of_the_stream_that_is_not_loaded_is_named(edited):
    path = edited({f"{BLOCKS}0.audio_attn1.to_z.weight": mx.zeros(2)})
    with pytest.raises(WeightsError, match=rf"unknown: {BLOCKS}0\.audio_attn1\.to_z"):
        load_transformer(open_checkpoint(path), dtype=mx.float32, streams=("video",))


def test_loading_the_decoder_does_not_touch_the_transformer():
    checkpoint = open_checkpoint(TINY)
    mx.clear_cache()
    before = mx.get_active_memory()
    decoder = load_video_decoder(checkpoint, dtype=mx.float32)
    mx.eval(decoder.parameters())
    used = mx.get_active_memory() - before
    mine = sum(value.nbytes for _, value in tree_flatten(decoder.parameters()))
    assert mine <= used <= 1.2 * mine + 2**18
    assert isinstance(decoder, nn.Module)
