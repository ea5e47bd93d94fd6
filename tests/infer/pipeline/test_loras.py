from pathlib import Path

import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.job import prepare_job
from ltx_infer.pipeline.loras import apply_loras, open_loras
from ltx_infer.pipeline.recipes import Facts, make_recipe
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import LoRAError
from ltx_models.quantize import quantization
from ltx_models.weights import TensorFile, save_tensors
from tests.conftest import GOLDEN

FACTS = Facts(version=(2, 3), variant="distilled", num_layers=6, first_tokens=64)
ADAPTER = str(GOLDEN / "lora-comfy-ltx23.safetensors")
DISTILLED = str(GOLDEN / "lora-distilled-ltx23.safetensors")


def opened(tiny, *, pipeline="dev-two-stage", **asked):
    config = build({"prompt": "x", "pipeline": pipeline, **asked})
    recipe = make_recipe(config, FACTS)
    stored = [str(quantization(config.quantize))] if config.quantize else []
    loras = open_loras(config, recipe, folder=tiny, stored=stored)
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
    loras = open_loras(config, make_recipe(config, FACTS), folder=tiny, stored=[])
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
        tensors |= {f"{layer}.lora_A.weight": mx.ones((1, in_dims))}
        tensors |= {f"{layer}.lora_B.weight": mx.ones((out, 1))}
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


def test_one_that_does_nothing_is_told(tiny, tmp_path):
    path = tmp_path / "zeros.safetensors"
    layer = "transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A": mx.ones((1, 64)), f"{layer}.lora_B": mx.zeros((64, 1))}
    mx.save_safetensors(str(path), tensors)
    said = []
    prepare_job(build({"prompt": "x", "model": "tiny", "lora": [[str(path)]]}), say=said.append)
    assert "zeros.safetensors: all of its updates are zero: it changes nothing" in said


def test_what_quantised_weights_keep_is_said_or_refused(tiny):
    asked = {"prompt": "x", "model": "tiny", "one_stage": True, "quantize": 8, "lora_mode": "fuse"}
    said = []

    def put(strength: float, **more) -> None:
        config = build({**asked, "lora": [[ADAPTER, strength]], **more})
        job = prepare_job(config, say=said.append)
        (stage,) = job.recipe.stages
        model = job.models.transformer(job.recipe.streams)
        said.clear()
        apply_loras(model, job.loras, stage)

    put(3.0)
    whole, worst = said
    assert whole.startswith("sampling: LoRA fused into 10 quantised layers: kept 1.00, error 0.0")
    assert worst.startswith("sampling: the worst layer is transformer_blocks.")
    with pytest.raises(LoRAError, match=r"--lora-fuse-anyway goes on"):
        put(1e-3)
    put(1e-3, lora_fuse_anyway=True)
    assert len(said) == 2


def test_fuse_anyway_is_for_fusing_into_quantised_weights(tiny):
    asked = {"lora": [[ADAPTER]], "lora_fuse_anyway": True}
    with pytest.raises(UserError, match="these weights are not quantised, and keep all of it"):
        opened(tiny, pipeline="dev", lora_mode="fuse", **asked)
    config = build({"prompt": "x", "model": "tiny", "quantize": 8, **asked})
    with pytest.raises(UserError, match="--lora-fuse-anyway: for --lora-mode fuse"):
        prepare_job(config, say=print)


def test_what_learnt_to_be_fused_is_fused_into_such_weights_alone(tiny, tmp_path):
    path = tmp_path / "my-aware.safetensors"
    how = quantization(4)
    about = {"quantization_aware": "true", "base_quantization": str(how)}
    file = TensorFile(Path(ADAPTER))
    save_tensors(path, file.tensors("", file.infos), about)
    loras, _ = opened(tiny, pipeline="dev", lora=[[str(path)], [ADAPTER]], quantize=4)
    assert loras.merged == {path}
    assert loras.mode == "attach"
    assert loras.notes == (f"my-aware.safetensors: fused, as it was trained to be, into {how}",)
    for other in ({"quantize": 8}, {}, {"quantize": 4, "lora_mode": "attach"}):
        loras, _ = opened(tiny, pipeline="dev", lora=[[str(path)]], **other)
        assert not loras.merged
        assert "otherwise it may do less than nothing" in loras.notes[0]
