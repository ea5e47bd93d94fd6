"""LoRA files in other forms: what is read back is the same update."""

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.files import write_tensors
from ltx_models.lora.adapters import Strength, attach
from ltx_models.lora.convert import Converted, Form, converted
from ltx_models.lora.files import LoRAError, LoRAFile, read_lora
from ltx_models.lora.names import released_names
from ltx_models.lora.updates import resolved, weight_change
from tests.models.lora.families import FAMILIES, LAYERS, flat, loha, lora, save
from tests.models.lora.test_scrambled import LAYERS as NUM_LAYERS
from tests.models.lora.test_scrambled import RANK, trained, written_as_it_lies
from tests.models.transformer.sizes import small_transformer

FORMS: tuple[Form, ...] = ("ours", "comfyui", "diffusers")
OTHERS = {"dora", "lokr", "full", "loha"}  # parts of the names of FAMILIES


@pytest.fixture(scope="module")
def model():
    return small_transformer("ltx23")


def written(folder: Path, made: Converted) -> LoRAFile:
    write_tensors(folder / "converted.safetensors", made.tensors, made.metadata)
    return read_lora(folder / "converted.safetensors")


def changes(file: LoRAFile, model) -> dict[str, np.ndarray]:
    """What a file adds to each weight at strength 1, by path."""
    layers, names, found = dict(model.named_modules()), released_names(), {}
    for name, update in file.updates().items():
        (path,) = names.find(name)
        weight = layers[path].weight.astype(mx.float32)
        found[path] = np.array(weight_change(resolved(update, layers[path]), weight))
    return found


def original(folder: Path, family: str, model) -> LoRAFile:
    (folder / "from").mkdir()
    weights = {path: np.array(dict(model.named_modules())[path].weight) for path in LAYERS}
    return read_lora(FAMILIES[family](folder / "from", weights)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_form(form, family, model, tmp_path):
    file = original(tmp_path, family, model)
    if form != "comfyui" and any(other in family for other in OTHERS):
        with pytest.raises(LoRAError, match=rf"no plain LoRA, and {form} has nothing else.\n--to"):
            converted(file, form)
        return
    again = written(tmp_path, converted(file, form))
    got, want = changes(again, model), changes(file, model)
    assert got.keys() == set(LAYERS) == want.keys()
    for path, change in want.items():
        assert np.abs(got[path] - change).max() <= 1e-6 * np.abs(change).max(), path
    attach(small_transformer("ltx23"), [(again, Strength())])


def test_loha_of_small_rank_is_a_lora_of_its_rank_squared(model, tmp_path):
    weights = {LAYERS[0]: np.zeros((32, 32))}
    file = read_lora(loha(tmp_path, weights, prefix="lycoris_", named=flat, rank=3)[0])
    again = written(tmp_path, converted(file, "ours"))
    assert again.families == ["LoRA"]
    assert {entry.rank for entry in again.entries.values()} == {9}
    got, want = changes(again, model)[LAYERS[0]], changes(file, model)[LAYERS[0]]
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_keys_of_each_form(model, tmp_path):
    file = original(tmp_path, "onetrainer", model)
    keys = {form: set(converted(file, form).tensors) for form in FORMS}
    at = "patchify_proj"
    assert {f"diffusion_model.{at}.lora_A.weight", f"diffusion_model.{at}.lora_B.weight"} < keys[
        "ours"
    ]
    assert len(keys["ours"]) == len(keys["diffusers"]) == 2 * len(LAYERS)
    assert {f"diffusion_model.{at}.{end}" for end in ("lora_up.weight", "alpha")} < keys["comfyui"]
    assert "transformer.proj_in.lora_A.weight" in keys["diffusers"]
    assert "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight" in keys["diffusers"]


def test_text_path_has_a_place_in_diffusers(tmp_path):
    video = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
    weights = {
        video: np.zeros((8, 8)),
        "text_embedding_projection.aggregate_embed": np.zeros((8, 8)),
    }
    file = read_lora(lora(tmp_path, weights)[0])
    made = converted(file, "diffusers")
    assert {key.split(".lora_")[0] for key in made.tensors} == {
        "connectors.video_connector.transformer_blocks.0.attn1.to_q",
        "connectors.text_proj_in",
    }
    assert written(tmp_path, made).updates().keys()


@pytest.mark.parametrize(("alpha", "dtype"), [(8.0, mx.bfloat16), (3.0, mx.float32)])
def test_a_folded_scale_is_exact(alpha, dtype, tmp_path):
    """In bfloat16 alpha / rank = 2 is, 0.75 times a number of 8 bits is not."""
    tensors = {"lora_A.weight": np.ones((4, 8)), "lora_B.weight": np.linspace(1, 2, 32)}
    tensors["lora_B.weight"] = tensors["lora_B.weight"].reshape(8, 4)
    at = "diffusion_model.transformer_blocks.0.attn1.to_q"
    arrays = {f"{at}.{key}": mx.array(x, mx.bfloat16) for key, x in tensors.items()}
    arrays[f"{at}.alpha"] = mx.array(alpha)
    mx.save_safetensors(str(tmp_path / "a.safetensors"), arrays)
    file = read_lora(tmp_path / "a.safetensors")
    made = converted(file, "ours").tensors
    assert made[f"{at}.lora_A.weight"].dtype == mx.bfloat16
    B = made[f"{at}.lora_B.weight"]
    assert B.dtype == dtype
    assert mx.array_equal(
        B.astype(mx.float32), alpha / 4 * arrays[f"{at}.lora_B.weight"].astype(mx.float32)
    )
    assert mx.array_equal(
        converted(file, "comfyui").tensors[f"{at}.lora_up.weight"], arrays[f"{at}.lora_B.weight"]
    )


def test_metadata_is_kept_but_for_what_would_be_wrong(tmp_path):
    about = {
        "reference_downscale_factor": "2",
        "trigger": "ohwx",
        "use_rslora": "true",
        "ss_network_alpha": "6",
        "modelspec.hash_sha256": "0x12",
    }
    weights = {LAYERS[0]: np.zeros((32, 32))}
    file = read_lora(lora(tmp_path, weights, alpha=True, metadata=about)[0])
    assert file.entries[LAYERS[0]].scale == 3.0
    for form in FORMS:
        made = converted(file, form)
        assert made.metadata.keys() - {"lora_adapter_metadata"} == {
            "format",
            "reference_downscale_factor",
            "trigger",
        }
        again = written(tmp_path, made)
        assert again.reference_downscale_factor == 2
        assert {entry.scale for entry in again.entries.values()} == {
            3.0 if form == "comfyui" else 1.0
        }


def test_ranks_that_differ_are_said_to_peft(tmp_path):
    tensors = {}
    for number, layer in enumerate(LAYERS[:3]):
        rank = 2 if number else 5
        tensors |= {f"{layer}.lora_A.weight": np.ones((rank, 8))}
        tensors |= {f"{layer}.lora_B.weight": np.ones((8, rank))}
    made = converted(save_as_lora(tmp_path, tensors), "diffusers")
    assert (
        '"transformer.rank_pattern": {"transformer_blocks.0.attn1.to_q": 5}'
        in made.metadata["lora_adapter_metadata"]
    )
    assert {entry.scale for entry in written(tmp_path, made).entries.values()} == {1.0}


def save_as_lora(folder: Path, tensors) -> LoRAFile:
    return read_lora(save(folder, tensors, {}))


def test_a_layer_of_no_ltx_2(tmp_path):
    tensors = {
        "blocks.0.attn1.to_qq.lora_A": np.ones((2, 8)),
        "patchify_proj.lora_A": np.ones((2, 8)),
    }
    tensors |= {key.replace("_A", "_B"): x.T for key, x in tensors.items()}
    file = save_as_lora(tmp_path, tensors)
    message = f"{file.path}: 1 of its 2 layers are in no LTX-2:\nblocks.0.attn1.to_qq (nearest: "
    with pytest.raises(LoRAError, match=re.escape(message)):
        converted(file, "ours")


def test_scrambled_factors_are_put_right(tmp_path):
    tensors, want = {}, {}
    for number in range(NUM_LAYERS):
        at = f"diffusion_model.transformer_blocks.{number}.attn1.to_q"
        A, B = trained(number), np.random.default_rng(number).normal(size=(8, RANK))
        want |= {f"{at}.lora_A.weight": A, f"{at}.lora_B.weight": B}
    tensors = {key: written_as_it_lies(x) for key, x in want.items()}
    made = converted(save_as_lora(tmp_path, tensors), "ours", repair=True)
    for key, x in want.items():
        assert mx.array_equal(made.tensors[key], mx.array(x, mx.float32)), key
    again = written(tmp_path, made)
    assert not again.scrambled
    with pytest.raises(LoRAError, match="its factors do not look scrambled; convert it as it is"):
        converted(again, "ours", repair=True)
