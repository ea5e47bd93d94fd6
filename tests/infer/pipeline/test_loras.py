import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.generate import prepare_job
from ltx_infer.pipeline.loras import open_loras
from ltx_infer.pipeline.recipes import Facts, make_recipe
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength
from tests.conftest import GOLDEN

FACTS = Facts(version=(2, 3), variant="distilled", num_layers=6, first_tokens=64)
ADAPTER = str(GOLDEN / "lora-comfy-ltx23.safetensors")
DISTILLED = str(GOLDEN / "lora-distilled-ltx23.safetensors")


def opened(tiny, *, pipeline="dev-two-stage", **asked):
    config = build({"prompt": "x", "pipeline": pipeline, **asked})
    recipe = make_recipe(config, FACTS)
    loras = open_loras(config, recipe, folder=tiny, quantized=asked.get("quantize") is not None)
    strengths = [
        [(file.path.name.split("-")[1], strength) for file, strength in loras.of(stage)]
        for stage in recipe.stages
    ]
    return loras, strengths


def test_strengths_by_stage(tiny):
    _, strengths = opened(tiny, lora=[[ADAPTER, 0.5, 0.25]], distilled_lora=[DISTILLED, 0.8])
    own = ("comfy", Strength(0.5, 0.25))
    assert strengths == [[own], [own, ("distilled", Strength(0.8))]]


def test_the_model_s_own_distilled_lora_is_found_and_said(tiny):
    loras, strengths = opened(tiny, pipeline="dev-two-stage-hq")
    assert [[strength for _, strength in stage] for stage in strengths] == [
        [Strength(0.25)],
        [Strength(0.5)],
    ]
    assert loras.notes == ("distilled LoRA: ltx-2.3-tiny-distilled-lora-4.safetensors",)


def test_a_lora_that_is_the_distilled_one_refines(tiny):
    loras, strengths = opened(tiny, lora=[[DISTILLED, 0.7]])
    assert strengths == [[], [("distilled", Strength(0.7))]]
    assert "refines, in place of the model's own" in loras.notes[0]
    with pytest.raises(UserError, match="a second distilled LoRA beside"):
        opened(tiny, lora=[[DISTILLED]], distilled_lora=[DISTILLED])


def test_of_a_training_run_the_step_is_said(tiny, tmp_path):
    for step in (20, 99_980, 100_000):
        path = tmp_path / f"checkpoints/lora_weights_step_{step:05}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(ADAPTER)
    config = build({"prompt": "x", "pipeline": "dev", "lora": [[str(tmp_path)]]})
    loras = open_loras(config, make_recipe(config, FACTS), folder=tiny, quantized=False)
    name = "lora_weights_step_100000.safetensors"
    assert loras.notes == (f"--lora {tmp_path}: {name}, step 100000",)


def test_lora_strength_is_for_those_without_one(tiny):
    _, strengths = opened(tiny, pipeline="dev", lora=[[ADAPTER]], lora_strength=0.3)
    assert strengths == [[("comfy", Strength(0.3))]]
    _, strengths = opened(tiny, lora_strength=0.3)
    assert strengths[1][0][1] == Strength(0.3)


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ({"pipeline": "dev", "lora": [[ADAPTER]]}, "fuse"),
        ({"pipeline": "dev", "lora": [[ADAPTER]], "quantize": 8}, "attach"),
        ({"pipeline": "ic-lora", "lora": [[ADAPTER]]}, "attach"),
        ({"pipeline": "ic-lora", "lora": [[ADAPTER]], "lora_mode": "fuse"}, "fuse"),
    ],
)
def test_mode(tiny, asked, mode):
    assert opened(tiny, **asked)[0].mode == mode


def test_ic_lora_is_off_in_stage_2(tiny):
    _, strengths = opened(tiny, pipeline="ic-lora", lora=[[ADAPTER]])
    assert strengths == [[("comfy", Strength(1.0))], []]


def test_the_distilled_lora_is_an_ordinary_one_where_no_stage_refines(tiny):
    loras, strengths = opened(tiny, pipeline="dev", lora=[[DISTILLED, 0.7]])
    assert strengths == [[("distilled", Strength(0.7))]]
    assert loras.notes == ()
    with pytest.raises(UserError, match="no stage of this run refines with it"):
        opened(tiny, pipeline="dev", distilled_lora=[DISTILLED])


@pytest.mark.parametrize("asked", [{"lora_strength": 0.5}, {"lora_mode": "attach"}])
def test_what_is_for_a_lora_needs_one(tiny, asked):
    with pytest.raises(UserError, match=r": for a --lora FILE"):
        opened(tiny, pipeline="dev", **asked)


@pytest.fixture
def partly(tiny, tmp_path) -> str:
    """An adapter for a layer of each stream, and for one that no model has."""
    layers = ("transformer_blocks.0.attn1.to_q", "audio_proj_out", "transformer_blocks.9.to_q")
    sizes = {"transformer_blocks.0.attn1.to_q": (64, 64), "audio_proj_out": (32, 32)}
    tensors = {}
    for layer in layers:
        out, in_dims = sizes.get(layer, (8, 8))
        tensors |= {f"{layer}.lora_A.weight": mx.zeros((1, in_dims))}
        tensors |= {f"{layer}.lora_B.weight": mx.zeros((out, 1))}
    mx.save_safetensors(str(tmp_path / "partly.safetensors"), tensors)
    return str(tmp_path / "partly.safetensors")


def test_layers_that_are_left_out_are_counted(tiny, partly):
    config = {"prompt": "x", "model": "tiny", "lora": [[partly]], "lora_allow_unmatched": True}
    said = []
    prepare_job(build({**config, "one_stage": True}), say=said.append)
    assert said == [
        "partly.safetensors: without 1 of its 3 layers, which this model lacks: "
        "transformer_blocks.9.to_q",
        "partly.safetensors: without 1 of its 3 layers, as the run has no sound: audio_proj_out",
    ]
    config["lora_allow_unmatched"] = False
    with pytest.raises(UserError, match=r"1 of its 3 layers are not in this model"):
        prepare_job(build(config), say=said.append)
