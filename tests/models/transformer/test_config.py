import json

import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.config import ConfigError
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.transformer.config import TransformerConfig
from tests.conftest import GOLDEN

RELEASED = LTX_2_3["transformer"]


def read(**changes):
    return TransformerConfig.read({**RELEASED, **changes}, at="config.transformer")


@pytest.mark.parametrize("name", ["ltx2-tiny", "ltx2.3-tiny"])
def test_golden_configurations_are_read(name):
    checkpoint = open_checkpoint(GOLDEN / f"{name}.safetensors")
    config = checkpoint.section("transformer", TransformerConfig)
    said = checkpoint.config["transformer"]
    fields = TransformerConfig.model_fields.keys()
    assert said.keys() <= fields | TransformerConfig.constants.keys() | set(TransformerConfig.idle)
    found = json.loads(config.model_dump_json())
    assert {k: v for k, v in found.items() if k in said} == {
        k: v for k, v in said.items() if k in fields
    }


def test_released_widths():
    old, new = (TransformerConfig.read(each["transformer"]) for each in (LTX_2, LTX_2_3))
    assert (old.dim, old.audio_dim) == (new.dim, new.audio_dim) == (4096, 2048)
    assert (old.feature_version, new.feature_version) == ("V1", "V2")
    assert old.connector == old.audio_connector == (30, 128, 2)
    assert (new.connector, new.audio_connector) == ((32, 128, 8), (32, 64, 8))
    assert (new.connector.dim, new.audio_connector.dim) == (4096, 2048)


def test_absent_keys_take_the_references_defaults():
    config = TransformerConfig.read({})
    assert config.num_layers == 48
    assert config.frequencies_precision == "float32"
    assert config.connector_positional_embedding_max_pos == (1.0,)
    assert config.av_ca_timestep_scale_multiplier == 1
    assert not config.apply_gated_attention
    assert config.feature_version == "V1"


@pytest.mark.parametrize("number", [1000, 1000.0])
def test_numbers_may_be_written_either_way(number):
    assert read(timestep_scale_multiplier=number).timestep_scale_multiplier == 1000.0
    assert read(num_embeds_ada_norm=number) == read()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_type": "interleaved"}, r"rope_type: 'interleaved', but only 'split' is computed"),
        (
            {"connector_num_learnable_registers": 64},
            r"connector_num_learnable_registers: 64, but only 128",
        ),
        ({"use_keyframes_abs_pos_embedding": True}, r"use_keyframes_\w+: True, but only False"),
        ({"ff_bias": False}, r"ff_bias: False, but only True"),
        ({"use_prompt_adaln_single": False}, r"use_prompt_adaln_single: False, but only True"),
        ({"num_layer": 48}, r"num_layer: unknown key; did you mean 'num_layers'"),
        ({"attention_head_dim": 127}, r"attention_head_dim: .*multiple of 2, got 127"),
        ({"num_layers": True}, r"num_layers: .*valid integer, got True"),
        ({"frequencies_precision": "bf16"}, r"frequencies_precision: .*'float64', got 'bf16'"),
        ({"positional_embedding_max_pos": [20, 2048]}, r"positional_embedding_max_pos"),
        (
            {"num_attention_heads": 64, "attention_head_dim": 64},
            r"audio_num_attention_heads: 32, but num_attention_heads is 64",
        ),
        (
            {"attention_head_dim": 64},
            r"cross_attention_dim: 4096, but num_attention_heads \* attention_head_dim is 2048",
        ),
        (
            {"audio_cross_attention_dim": 1024, "audio_connector_attention_head_dim": 32},
            r"audio_cross_attention_dim: 1024, but audio_num_attention_heads \* .* is 2048",
        ),
        (
            {"connector_num_attention_heads": 30},
            r"cross_attention_dim: 4096, but the video connector's heads \* head_dim is 3840",
        ),
        (
            {"audio_connector_attention_head_dim": 32},
            r"audio_cross_attention_dim: 2048, but the audio connector's .* is 1024",
        ),
    ],
)
def test_what_is_not_computed_is_an_error(changes, message):
    with pytest.raises(ConfigError, match=r"config\.transformer\." + message):
        read(**changes)


def test_caption_channels_of_v1_are_the_connectors_width():
    with pytest.raises(ConfigError, match=r"caption_channels: 2560, but the video connector's"):
        TransformerConfig.read({**LTX_2["transformer"], "caption_channels": 2560})


@pytest.mark.parametrize(
    "changes",
    [
        {"caption_proj_before_connector": False},
        {"caption_projection_first_linear": True},
        {"caption_proj_input_norm": True},
        {"caption_projection_second_linear": None},
    ],
)
def test_half_of_the_caption_keys_is_an_error(changes):
    ((key, value),) = changes.items()
    with pytest.raises(ConfigError) as error:
        read(**changes)
    assert f"{key} {value}" in str(error.value).split("; only")[0]
    assert "caption_proj_before_connector True" in str(error.value).split("; only")[1]
