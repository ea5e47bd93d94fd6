import re
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.lora.files import LoRAError, is_audio, is_distilled, read_lora
from ltx_models.lora.keys import PREFIXES
from ltx_models.weights import WeightsError

MODULE = "transformer_blocks.0.attn1.to_q"
A, B = mx.ones((2, 6)), mx.ones((4, 2))


def write(folder: Path, tensors: dict[str, mx.array], **metadata: str) -> Path:
    path = folder / "a.safetensors"
    mx.save_safetensors(str(path), tensors, metadata)
    return path


def pair(module: str = MODULE, down: mx.array = A, up: mx.array = B) -> dict[str, mx.array]:
    at = f"diffusion_model.{module}"
    return {f"{at}.lora_A.weight": down, f"{at}.lora_B.weight": up}


@pytest.mark.parametrize("prefix", [*PREFIXES, ""])
@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_styles_of_keys(prefix, names, tmp_path):
    keys = [f"{prefix}{MODULE}.{name}.weight" for name in names]
    lora = read_lora(write(tmp_path, dict(zip(keys, (2 * A, 3 * B), strict=True))))
    assert list(lora.entries) == [MODULE]
    assert lora.entries[MODULE].shape == (4, 6)
    assert lora.entries[MODULE].alpha is None
    adapter = lora.updates()[MODULE].low_rank
    assert adapter.scale == 1
    assert mx.array_equal(adapter.A, 2 * A)
    assert mx.array_equal(adapter.B, 3 * B)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.int64])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_alpha_over_rank_is_the_scale(shape, dtype, tmp_path):
    alpha = {f"diffusion_model.{MODULE}.alpha": mx.full(shape, 3, dtype)}
    lora = read_lora(write(tmp_path, pair() | alpha))
    assert lora.entries[MODULE].alpha == 3
    assert lora.entries[MODULE].scale == lora.updates()[MODULE].low_rank.scale == 1.5


def test_ranks_may_differ(tmp_path):
    others = pair("patchify_proj", mx.ones((5, 3)), mx.ones((7, 5)))
    lora = read_lora(write(tmp_path, pair() | others))
    assert {path: entry.rank for path, entry in lora.entries.items()} == {
        MODULE: 2,
        "patchify_proj": 5,
    }


def test_a_file_that_changes_nothing_is_told(tmp_path):
    at, zeros = f"diffusion_model.{MODULE}", mx.zeros_like(B)
    shift, rows = {f"{at}.diff_b": mx.ones(4)}, {f"{at}.dora_scale": mx.ones((4, 1))}
    for tensors, idle in (
        (pair(up=zeros), True),
        (pair(down=mx.zeros_like(A)), True),
        (pair() | {f"{at}.alpha": mx.array(0.0)}, True),
        ({f"{at}.diff": mx.zeros((4, 6))}, True),
        (pair(), False),
        (pair(up=zeros) | pair("patchify_proj"), False),
        (pair(up=zeros) | shift, False),
        (pair(up=zeros) | rows, False),
    ):
        lora = read_lora(write(tmp_path, tensors))
        assert lora.idle is idle
        words = ["all of its updates are zero: it changes nothing"] if idle else []
        assert lora.warnings((2, 3)) == words


@pytest.mark.parametrize(
    ("metadata", "spatial", "temporal"),
    [
        ({}, 1, 1),
        ({"reference_downscale_factor": "2"}, 2, 1),
        ({"ss_reference_downscale_factor": "2.0"}, 2, 1),
        ({"reference_spatial_scale_factor": "2", "reference_downscale_factor": "2"}, 2, 1),
        ({"ss_reference_temporal_scale_factor": "8", "model_version": "2.3.0"}, 1, 8),
    ],
)
def test_metadata(metadata, spatial, temporal, tmp_path):
    lora = read_lora(write(tmp_path, pair(), **metadata))
    assert lora.reference_downscale_factor == spatial
    assert lora.reference_temporal_scale_factor == temporal
    assert lora.metadata == metadata


NAN = mx.array([[float("nan")] * 2] * 4)
AT = f"diffusion_model.{MODULE}"
HALVES = {"w1_a": B, "w1_b": A, "w2_a": B, "w2_b": mx.ones((2, 4))}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            pair() | {f"{AT}.bones": A},
            f"not a LoRA that can be read here; LoRA, DoRA, LoHa, LoKr and full differences are:\n"
            f"{AT}.bones is no part of a LoRA",
        ),
        (
            {f"{AT}.lora_A.weight": A},
            f"not a LoRA that can be read:\n{MODULE}: no lora_B beside {AT}.lora_A.weight",
        ),
        ({f"{AT}.alpha": mx.array(1.0)}, f"{MODULE}: no lora_A and no lora_B beside {AT}.alpha"),
        (
            pair(up=mx.ones((4, 3))),
            f"{MODULE}: lora_A (2, 6) and lora_B (4, 3); (rank, in) and (out, rank) would fit",
        ),
        (pair(down=mx.ones((2, 6, 1, 1))), f"{MODULE}: lora_A (2, 6, 1, 1) and lora_B (4, 2)"),
        (pair(down=mx.ones((0, 6)), up=mx.ones((4, 0))), "lora_A (0, 6) and lora_B (4, 0)"),
        (pair() | {f"{AT}.alpha": A}, f"{AT}.alpha: (2, 6), not one number"),
        (
            pair() | {f"{MODULE}.lora_down.weight": A},
            f"{AT}.lora_A.weight and {MODULE}.lora_down.weight are for one layer",
        ),
        (pair(up=NAN), f"NaN or infinity in {AT}.lora_B.weight, 1 such in all.\nThe file is"),
        (pair(down=A / 0), f"NaN or infinity in {AT}.lora_A.weight"),
        (pair() | {f"{AT}.alpha": mx.array(float("inf"))}, f"NaN or infinity in {AT}.alpha"),
        (pair() | {f"{AT}.diff": A}, "parts of more than one family"),
        (pair() | {f"{AT}.hada_w1_a": A}, "parts of more than one family"),
        ({f"{AT}.dora_scale": A}, f"{AT}.dora_scale without a LoRA that it belongs to"),
        (
            pair() | {f"{AT}.dora_scale": A},
            f"{AT}.dora_scale: (2, 6); (4,) or (4, 1) or (1, 6) would",
        ),
        ({f"{AT}.diff_b": A}, f"{AT}.diff_b: (2, 6); (out,) would fit"),
        ({f"{AT}.hada_w1_a": A}, "no hada_w1_b and no hada_w2_a and no hada_w2_b beside"),
        (
            {f"{AT}.lokr_w1": A, f"{AT}.lokr_w1_a": A, f"{AT}.lokr_w1_b": A, f"{AT}.lokr_w2": A},
            "parts that exclude each other",
        ),
        ({f"{AT}.lokr_w1": A[0], f"{AT}.lokr_w2": A}, "lokr_w1 (6,); two dimensions would fit"),
        (
            {f"{AT}.lokr_w1": A, f"{AT}.lokr_w2_a": A, f"{AT}.lokr_w2_b": A},
            "lokr_w2_b (2, 6) and lokr_w2_a (2, 6) do not multiply",
        ),
        (
            {f"{AT}.hada_{half}": x for half, x in HALVES.items()},
            "halves of sizes (4, 6) and (4, 4); equal fit",
        ),
        (pair() | {f"{AT}.lora_mid.weight": A}, "lora_mid.weight is a factor of convolutions"),
        (pair() | {f"{AT}.lora_B.bias": A}, "lora_B.bias is a bias of lora_B's own"),
        ({f"{AT}.oft_blocks": A}, "oft_blocks is of the family OFT"),
        ({f"{AT}.oft_R.default.weight": A}, "oft_R.default.weight is of the family OFT"),
        ({f"{AT}.a1.weight": A}, "a1.weight is of the family GLoRA"),
        ({f"{AT}.set_weight": A}, "set_weight is a weight to be replaced or reshaped"),
        ({}, "there is no tensor in it"),
    ],
)
def test_files_that_are_refused(tensors, message, tmp_path):
    path = write(tmp_path, tensors)
    with pytest.raises(LoRAError, match=re.escape(message)) as caught:
        read_lora(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"reference_downscale_factor": "0"}, "reference_downscale_factor is '0'; 1, 2, 3, ..."),
        ({"ss_reference_downscale_factor": "half"}, "ss_reference_downscale_factor is 'half'"),
        ({"reference_temporal_scale_factor": "1.5"}, "reference_temporal_scale_factor is '1.5'"),
        (
            {"reference_downscale_factor": "2", "reference_spatial_scale_factor": "1"},
            "contradicts itself: reference_downscale_factor '2', reference_spatial_scale_factor '1",
        ),
    ],
)
def test_metadata_that_is_refused(metadata, message, tmp_path):
    with pytest.raises(LoRAError, match=re.escape(message)):
        read_lora(write(tmp_path, pair(), **metadata))


def test_files_that_are_not_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("no LoRA")
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        read_lora(path)


def test_an_opened_file_holds_no_tensors(tmp_path):
    path = write(tmp_path, pair(down=mx.ones((2, 2**18)), up=mx.ones((2**18, 2))))
    before = mx.get_active_memory()
    lora = read_lora(path)
    assert mx.get_active_memory() - before < 2**16  # of 2**22
    assert lora.entries[MODULE].shape == (2**18, 2**18)


@pytest.mark.parametrize(
    ("name", "distilled"),
    [
        ("ltx-2-19b-distilled-lora-384.safetensors", True),
        ("LTX-2.3-22b-Distilled-LoRA-avg_rank_105.safetensors", True),
        ("ltx-2-19b-ic-lora-detailer.safetensors", False),
    ],
)
def test_distilled_by_name(name, distilled):
    assert is_distilled(Path("distilled") / name) == distilled


@pytest.mark.parametrize(
    ("module", "audio"),
    [
        ("transformer_blocks.0.attn1.to_q", False),
        ("transformer_blocks.0.audio_attn1.to_out.0", True),
        ("transformer_blocks.0.audio_ff.net.0.proj", True),
        ("transformer_blocks.0.video_to_audio_attn.to_k", True),
        ("transformer_blocks.0.audio_to_video_attn.to_k", False),
        ("audio_adaln_single.emb.timestep_embedder.linear_1", True),
        ("adaln_single.linear", False),
    ],
)
def test_streams_of_layers(module, audio):
    assert is_audio(module) == audio


names = st.text("abz_", min_size=1, max_size=6).filter(
    lambda name: name not in ("transformer", "model")
)
modules = st.lists(names | st.integers(0, 99).map(str), min_size=1, max_size=4).map(".".join)


@settings(max_examples=30, deadline=None)
@given(st.sets(modules, min_size=1, max_size=3), st.sampled_from([*PREFIXES, ""]), st.booleans())
def test_any_module_comes_back_from_its_key(tmp_path_factory, paths, prefix, kohya):
    names = ("lora_down", "lora_up") if kohya else ("lora_A", "lora_B")
    ends = {f".{names[0]}.weight": A, f".{names[1]}.weight": B, ".alpha": mx.array(2.0)}
    tensors = {f"{prefix}{path}{end}": x for path in paths for end, x in ends.items()}
    lora = read_lora(write(tmp_path_factory.mktemp("loras"), tensors))
    assert lora.entries.keys() == paths
    assert all(entry.scale == 1 for entry in lora.entries.values())
