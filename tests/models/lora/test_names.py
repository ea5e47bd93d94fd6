import numpy as np
import pytest

from ltx_models.lora.files import LoRAError, read_lora
from ltx_models.lora.fit import match
from ltx_models.lora.names import in_text_path, list_names, model_names, places
from tests.models.lora.families import save
from tests.models.transformer.sizes import CONFIGS, small_transformer

CONNECTOR = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_out.0"


@pytest.mark.parametrize("version", CONFIGS)
def test_no_name_of_a_model_is_ambiguous(version):
    names = model_names(CONFIGS[version])
    for spelled in (*names.others, *names.flat):
        assert len(names.find(spelled)) == 1, spelled


@pytest.mark.parametrize("version", CONFIGS)
def test_every_layer_is_found_by_its_own_name_and_by_underscores(version):
    names, here = model_names(CONFIGS[version]), places(small_transformer(version))
    assert here < names.paths
    for path in names.paths:
        assert names.find(path) == names.find(path.replace(".", "_")) == {path}
        assert in_text_path(path) == (path not in here)


@pytest.mark.parametrize(
    ("version", "name", "path"),
    [
        ("ltx23", "connectors.video_connector.transformer_blocks.0.attn1.to_out.0", CONNECTOR),
        ("ltx23", "connectors_video_connector_transformer_blocks_0_attn1_to_out_0", CONNECTOR),
        ("ltx23", "connectors.video_text_proj_in", "text_embedding_projection.video_aggregate_emb"),
        ("ltx23", "connectors.audio_text_proj_in", "text_embedding_projection.audio_aggregate_emb"),
        ("ltx2", "connectors.text_proj_in", "text_embedding_projection.aggregate_emb"),
        ("ltx2", "caption_projection.linear1", "caption_projection.linear_1"),
        ("ltx23", "transformer_blocks.0.attn1.norm_q", "transformer_blocks.0.attn1.q_norm"),
        (
            "ltx23",
            "transformer_blocks.0.audio_a2v_cross_attn_scale_shift_table",
            "transformer_blocks.0.scale_shift_table_a2v_ca_audio",
        ),
    ],
)
def test_names_of_other_programs(version, name, path):
    (found,) = model_names(CONFIGS[version]).find(name)
    assert found.startswith(path)


def test_a_name_that_may_be_two_layers(tmp_path):
    names = list_names(["a.b_c", "a_b.c"])
    assert names.find("a.b_c") == {"a.b_c"}
    assert names.find("a_b_c") == {"a.b_c", "a_b.c"}
    file = read_lora(save(tmp_path, {"lora_unet_a_b_c.diff": [[1.0]]}, {}))
    with pytest.raises(LoRAError, match=r"a\.safetensors: a_b_c may be a\.b_c or a_b\.c"):
        match(file, names, small_transformer("ltx2"))


def test_two_names_of_one_layer(tmp_path):
    keys = ("transformer.proj_in.diff", "lora_unet_patchify_proj.diff")
    file = read_lora(save(tmp_path, {key: [[1.0]] for key in keys}, {}))
    with pytest.raises(LoRAError, match="patchify_proj and proj_in are both for patchify_proj"):
        match(file, model_names(CONFIGS["ltx2"]), small_transformer("ltx2"))


def test_matched_unmatched_and_misshapen_are_told_apart(tmp_path):
    keys = ("patchify_proj", "proj_out", "proj_up", "transformer_blocks.0.attn1.q_norm")
    zeros = {"patchify_proj": [[0.0] * 6] * 32, keys[3]: [0.0] * 32}
    file = read_lora(save(tmp_path, {f"{k}.diff": zeros.get(k, [[0.0]]) for k in keys}, {}))
    model = small_transformer("ltx2")
    found = match(file, model_names(model.config), model)
    assert sorted(found.found) == ["patchify_proj", "proj_out", keys[3]]
    assert found.unmatched == ("proj_up",)
    assert found.misshapen == ("proj_out: (1, 1) in the file, (6, 32) in the model",)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("proj_out.diff_b", (8,), "proj_out: bias (8,) in the file, (6,) in the model"),
        (
            "scale_shift_table.diff_b",
            (2,),
            "scale_shift_table: a bias in the file, none in the mod",
        ),
    ],
)
def test_what_a_layer_does_not_have(key, shape, message, tmp_path):
    file = read_lora(save(tmp_path, {key: np.zeros(shape)}, {}))
    model = small_transformer("ltx2")
    (problem,) = match(file, model_names(model.config), model).misshapen
    assert problem.startswith(message)
