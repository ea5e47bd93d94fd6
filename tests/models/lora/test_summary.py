import mlx.core as mx
import numpy as np
import pytest

from ltx_models.lora.files import read_lora
from ltx_models.lora.names import list_names, released_names
from ltx_models.lora.summary import kind, norm, summary
from tests.models.lora.families import FAMILIES, LAYERS, RANK, save
from tests.models.transformer.sizes import small_transformer

FIRST = "diffusion_model.transformer_blocks."


def test_kinds_of_layers():
    assert {path: kind(path) for path in LAYERS} == {
        "transformer_blocks.0.attn1.to_q": "picture self-attention",
        "transformer_blocks.1.audio_attn1.to_out.0": "sound self-attention",
        "transformer_blocks.0.video_to_audio_attn.to_k": "sound from picture",
        "transformer_blocks.1.ff.net.0.proj": "picture feed-forward",
        "transformer_blocks.1.audio_ff.net.2": "sound feed-forward",
        "transformer_blocks.0.attn2.to_gate_logits": "picture text attention",
        "patchify_proj": "picture time, input and output",
        "audio_proj_out": "sound time, input and output",
        "adaln_single.emb.timestep_embedder.linear_1": "picture time, input and output",
        "audio_prompt_adaln_single.linear": "sound time, input and output",
        "av_ca_video_scale_shift_adaln_single.linear": "picture time, input and output",
        "av_ca_v2a_gate_adaln_single.linear": "sound time, input and output",
    }
    assert kind("transformer_blocks.3.audio_to_video_attn.to_q") == "picture from sound"
    assert kind("video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q") == "text path"


@pytest.mark.parametrize("family", [name for name in FAMILIES if "dora" not in name])
def test_norms_are_those_of_the_whole_update(family, tmp_path):
    layers = dict(small_transformer("ltx23").named_modules())
    weights = {path: np.array(layers[path].weight) for path in LAYERS}
    path, deltas = FAMILIES[family](tmp_path, weights)
    names = list_names(LAYERS)
    for name, update in read_lora(path).updates().items():
        (layer,) = names.find(name)
        assert norm(update) == pytest.approx(np.linalg.norm(deltas[layer]), rel=1e-5)
    found = summary(read_lora(path), names)
    assert {p for part in found.parts for p in part.paths} == set(LAYERS)
    assert found.dead == found.nearly_dead == found.unknown == ()


def test_parts_and_what_does_nothing(tmp_path):
    draw, tensors = np.random.default_rng(0), {}
    sizes = {0: 1.0, 1: 1.0, 2: 0.0, 5: 1e-6}  # of B, by block
    for block, size in sizes.items():
        for layer in ("attn1.to_q", "attn1.to_k"):
            at = f"{FIRST}{block}.{layer}"
            tensors[f"{at}.lora_A.weight"] = draw.normal(size=(RANK, 8))
            tensors[f"{at}.lora_B.weight"] = size * draw.normal(size=(8, RANK))
    tensors[f"{FIRST}0.attn1.to_x.diff"] = np.full((8, 8), 2.0)
    tensors[f"{FIRST}0.ff.net.2.diff_b"] = np.full(9, 2.0)
    found = summary(read_lora(save(tmp_path, tensors, {})), released_names())
    feed_forward, attention, unmatched = found.parts
    assert attention.blocks == "0-2, 5"
    assert attention.ranks == (RANK,)
    assert attention.norm >= attention.largest
    assert feed_forward.norm == pytest.approx(6.0)
    assert unmatched.name == "unmatched"
    assert unmatched.ranks == (0,)
    assert unmatched.largest == 16.0  # of the full difference
    assert set(found.dead) == {f"transformer_blocks.2.attn1.to_{x}" for x in "qk"}
    assert {path.split(".")[1] for path in found.nearly_dead} == {"5"}
    assert found.unknown == ("transformer_blocks.0.attn1.to_x",)


def test_half_precision_does_not_overflow(tmp_path):
    arrays = {
        f"{FIRST}0.attn1.to_q.lora_{part}": mx.full((16, 16), 200.0, mx.float16) for part in "AB"
    }
    mx.save_safetensors(str(tmp_path / "a.safetensors"), arrays)
    (update,) = read_lora(tmp_path / "a.safetensors").updates().values()
    assert norm(update) == pytest.approx(200.0**2 * 16 * 16, rel=1e-5)
