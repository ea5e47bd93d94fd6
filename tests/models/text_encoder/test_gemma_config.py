import json

import pytest

from ltx_models.config import ConfigError
from ltx_models.errors import UserError
from ltx_models.text_encoder.gemma_config import read_gemma_config

# What the released Gemma 3 12B says of its text model; all else is left to the defaults.
GEMMA_12B = {
    "hidden_size": 3840,
    "intermediate_size": 15360,
    "model_type": "gemma3_text",
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
}


def write(folder, data):
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def read(folder, **changes):
    data = {"model_type": "gemma3", "text_config": GEMMA_12B | changes, "vision_config": {}}
    return read_gemma_config(write(folder, data))


def test_released_gemma(tmp_path):
    config = read(tmp_path)
    assert config.num_features == 188160
    assert (config.head_dim, config.sliding_window_pattern, config.vocab_size) == (256, 6, 262208)
    assert (config.rope_theta, config.rope_local_base_freq) == (1e6, 1e4)
    assert config.rope_scaling.model_dump() == {"rope_type": "linear", "factor": 8.0}


def test_text_only_layout_says_the_same(tmp_path):
    wanted = read(tmp_path)
    assert read_gemma_config(write(tmp_path, GEMMA_12B)) == wanted


def test_form_of_transformers_5_says_the_same(tmp_path):
    wanted = read(tmp_path)
    found = read(
        tmp_path,
        rope_scaling=None,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 8,
    )
    assert found == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 5e5}}, "rope_scaling": None},
            {"rope_theta": 5e5, "rope_local_base_freq": 1e4},
        ),
        (
            {"rope_parameters": {"sliding_attention": {"rope_theta": 5e3}}},
            {"rope_theta": 1e6, "rope_local_base_freq": 5e3},
        ),
        ({"layer_types": ["full_attention"] * 48}, {"sliding_window_pattern": 1}),
        ({"layer_types": ["sliding_attention"] * 48}, {"sliding_window_pattern": 49}),
        ({"sliding_window_pattern": 3}, {"sliding_window_pattern": 3}),
    ],
)
def test_what_is_said_is_read(tmp_path, changes, said):
    config = read(tmp_path, **changes)
    assert {key: getattr(config, key) for key in said} == said


def test_older_spelling_of_the_rope_type(tmp_path):
    config = read(tmp_path, rope_scaling={"type": "linear", "factor": 4.0})
    assert config.rope_scaling.model_dump() == {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"use_bidirectional_attention": True},
            r"use_bidirectional_attention: True, but only False",
        ),
        ({"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping: 50\.0, but only None"),
        ({"hidden_activation": "silu"}, r"hidden_activation: 'silu', but only 'gelu_pytorch_tanh'"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2}},
            r"rope_scaling\.rope_type: .*'yarn'",
        ),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}},
            r"rope_parameters\.sliding_attention: .*'linear'.*only the rope_type 'default'",
        ),
        (
            {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
            r"layer_types: sliding_attention, full_attention, full_attention; only",
        ),
        ({"layer_types": "full_attention"}, r"layer_types: 'full_attention', a list of names"),
        ({"layer_types": [None]}, r"layer_types: None; only full_attention"),
        ({"rope_parameters": [1]}, r"rope_parameters is not a JSON object, but \[1\]"),
        ({"rope_scaling": "linear"}, r'rope_scaling is not a JSON object, but "linear"'),
        ({"hidden_size": "wide"}, r"config\.json\.hidden_size: .*valid integer, got 'wide'"),
    ],
)
def test_another_gemma_3_is_an_error(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **changes)


def test_another_model_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"model_type is 'llama'\nLTX-2 reads its text with Gemma 3"
    ):
        read_gemma_config(write(tmp_path, {"model_type": "llama"}))


def test_folder_without_config_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json in this folder\n.*google/gemma-3-12b-it"):
        read_gemma_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"model_type"', r"config\.json is not JSON: "),
        (b'{"model_type": "\xfe"}', r"config\.json is not JSON: no UTF-8 text"),
        (b"[]", r"config\.json is not a JSON object, but \[\]"),
        (
            b'{"model_type": "gemma3", "text_config": null}',
            r"text_config is not .* object, but null",
        ),
        (
            b'{"model_type": "gemma3", "text_config": [1]}',
            r"text_config is not .* object, but \[1\]",
        ),
    ],
)
def test_config_that_is_no_object_is_an_error(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        read_gemma_config(tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("4bit", r'config\.json\.quantization is not a JSON object, but "4bit"'),
        ({"group_size": 64}, r"config\.json\.quantization\.bits: None, a number is wanted"),
        ({"group_size": "64", "bits": 4}, r"quantization\.group_size: '64', a number is wanted"),
    ],
)
def test_quantization_that_says_nothing_is_an_error(tmp_path, said, message):
    data = {"model_type": "gemma3", "text_config": GEMMA_12B, "quantization": said}
    with pytest.raises(ConfigError, match=message):
        read_gemma_config(write(tmp_path, data))


def test_a_folder_in_the_configs_place_is_an_error(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match=r"config\.json: is a folder, a file is wanted"):
        read_gemma_config(tmp_path)
