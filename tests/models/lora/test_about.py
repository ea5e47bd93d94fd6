import json

import numpy as np
import pytest

from ltx_models.config import ConfigError
from ltx_models.lora.about import made_for, other_generation
from ltx_models.lora.files import LoRAError, read_lora
from tests.models.lora.families import save

PAIR = {
    "patchify_proj.lora_A.weight": np.ones((4, 6)),
    "patchify_proj.lora_B.weight": np.ones((32, 4)),
}
MLX = {"patchify_proj.lora_a": np.ones((6, 4)), "patchify_proj.lora_b": np.ones((4, 32))}


@pytest.mark.parametrize(
    ("metadata", "version"),
    [
        ({"ss_base_model_version": "ltx2.3"}, (2, 3)),
        ({"model_version": "2.3.0"}, (2, 3)),
        ({"base_model_version": "2.0.0-rc1"}, (2, 0)),
        ({"model_version": "0.9.7"}, (0,)),
        ({"ss_base_model_version": "ltxv-13b-0.9.8"}, (0,)),
        ({"modelspec.architecture": "ltx-video/lora"}, (0,)),
        ({"modelspec.architecture": "LTX2/lora"}, (2,)),
        ({"base_model": "Lightricks/LTX-2"}, (2,)),
        ({"base_model": "Lightricks/LTX-2.5"}, (2, 5)),
        ({"base_model_file": "ltx-2-19b-dev.safetensors"}, (2, 0)),
        ({"base_model": "ltx-2.3-22b-dev.safetensors"}, (2, 3)),
        ({"ss_base_model_version": "flux1"}, ()),
        ({"ss_base_model_version": "wan2.1"}, ()),
    ],
)
def test_generation_that_metadata_names(metadata, version):
    made = made_for(metadata)
    assert made is not None
    assert made.version == version
    assert made.words in metadata.values()


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"base_model": "/data/mine/best"}])
def test_nothing_is_made_of_other_words(metadata):
    assert made_for(metadata) is None


@pytest.mark.parametrize(
    ("said", "model", "warned"),
    [
        ("ltx2.3", (2, 3, 0), False),
        ("ltx2", (2, 3), False),
        ("ltx2.5", (2, 3), True),
        ("ltx-video", (2, 0), True),
        ("sdxl_base_v1-0", (2, 0), True),
    ],
)
def test_another_generation_is_warned_of(said, model, warned, tmp_path):
    file = read_lora(save(tmp_path, PAIR, {"ss_base_model_version": said}))
    line = f"made for {said} by its metadata, and this model is LTX-2.{model[1]}: it may do little "
    lines = file.warnings(model)
    assert [text.startswith(line) for text in lines] == [True] * warned
    assert (other_generation(file.metadata, model) in lines) == warned


def peft(tmp_path, config) -> float:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return read_lora(save(tmp_path, PAIR, {}, name="adapter_model")).entries["patchify_proj"].scale


def test_peft_s_configuration(tmp_path):
    assert peft(tmp_path, {"r": 2, "lora_alpha": 8}) == 2  # of the tensors' rank, 4
    assert peft(tmp_path, {"lora_alpha": 8, "use_rslora": True}) == 4
    assert peft(tmp_path, {"lora_alpha": 8, "alpha_pattern": {"patchify_.*": 4}}) == 1
    assert peft(tmp_path, {"lora_alpha": 8, "alpha_pattern": {"patchify": 4}}) == 2
    with pytest.raises(
        LoRAError, match=r"adapter_config\.json: an alpha or a rank in it is no num"
    ):
        peft(tmp_path, {"lora_alpha": "many"})
    with pytest.raises(ConfigError, match=r"adapter_config\.json is not a JSON object"):
        peft(tmp_path, {"alpha_pattern": [1]})


def test_peft_s_configuration_is_for_its_own_file(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    assert read_lora(save(tmp_path, PAIR, {})).entries["patchify_proj"].scale == 1


def test_components_of_diffusers_have_configurations_of_their_own(tmp_path):
    said = {"transformer.lora_alpha": 8, "connectors.lora_alpha": 2}
    tensors = {f"transformer.{key}": value for key, value in PAIR.items()}
    tensors |= {f"connectors.{key}": value for key, value in PAIR.items()}
    file = read_lora(save(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(said)}))
    assert file.entries["patchify_proj"].scale == 2
    assert file.entries["connectors.patchify_proj"].scale == 0.5


def test_mlx_lm_needs_the_scale_that_lies_beside(tmp_path):
    with pytest.raises(
        LoRAError, match=r"mlx-lm's \(lora_a, lora_b\), whose scale is in adapter_c"
    ):
        read_lora(save(tmp_path, MLX, {}))
    (tmp_path / "adapter_config.json").write_text('{"lora_parameters": {"scale": "20"}}')
    with pytest.raises(LoRAError, match=r"lora_parameters\.scale is '20', not a number"):
        read_lora(save(tmp_path, MLX, {}))
