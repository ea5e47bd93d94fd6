import pytest

from ltx_infer.config import build
from ltx_infer.pipeline.recipes import Facts, make_recipe
from ltx_infer.sampling.sigmas import DISTILLED, REFINE, shifted
from ltx_models.errors import UserError

FACTS = Facts(version=(2, 3), variant=None, num_layers=48, first_tokens=2304)


def recipe(facts=FACTS, **asked):
    return make_recipe(build({"prompt": "x", **asked}), facts)


def test_distilled():
    found = recipe()
    assert [stage.sigmas for stage in found.stages] == [DISTILLED, REFINE]
    assert [stage.share for stage in found.stages] == [0.5, 1.0]
    assert found.streams == ("video",)
    assert all(not stage.guidance for stage in found.stages)


def test_fewer_steps_take_some_of_the_levels_and_say_which():
    found = recipe(steps=4)
    assert found.stages[0].sigmas == (1.0, 0.9875, 0.909375, 0.421875, 0.0)
    assert found.notes == ("4 of the 8 levels: 1.0, 0.9875, 0.909375, 0.421875, 0.0",)


def test_distilled_on_dev_weights_uses_the_lora_and_says_so():
    facts = Facts(version=(2, 0), variant="dev", num_layers=48, first_tokens=1)
    found = recipe(facts)
    assert found.distilled_strengths == (1.0, 1.0)
    assert "the distilled LoRA is attached at strength 1.0" in found.notes[0]


@pytest.mark.parametrize(("version", "block"), [((2, 0), 29), ((2, 3), 28)])
def test_guidance_follows_the_generation(version, block):
    facts = Facts(version=version, variant="dev", num_layers=48, first_tokens=1)
    (stage,) = recipe(facts, pipeline="dev", stg_scale=1.0).stages
    assert stage.guidance["video"].stg_blocks == (block,)
    assert (stage.guidance["video"].cfg, stage.guidance["video"].rescale) == (3.0, 0.7)
    assert stage.sigmas == shifted(30)


def test_hq_counts_the_tokens_and_rescales_by_stream():
    found = recipe(pipeline="dev-two-stage-hq", audio=True)
    first, second = found.stages
    assert first.sigmas == shifted(15, num_tokens=2304)
    assert (first.sampler, second.sampler) == ("res_2s", "res_2s")
    assert (first.guidance["video"].rescale, first.guidance["audio"].rescale) == (0.45, 1.0)
    assert found.distilled_strengths == (0.25, 0.5)
    assert found.sound_of == 0


def test_given_sound_is_not_guided():
    found = recipe(pipeline="dev", audio_file="a.wav")
    assert found.streams == ("video", "audio")
    assert found.stages[0].guidance.keys() == {"video"}
    assert recipe(pipeline="dev", audio_file="a.wav", audio_strength=0.5).stages[
        0
    ].guidance.keys() == {"video", "audio"}


def test_one_stage_and_skipped_stage():
    assert [s.share for s in recipe(pipeline="dev-two-stage", one_stage=True).stages] == [1.0]
    assert [s.share for s in recipe(pipeline="ic-lora", skip_stage_2=True).stages] == [0.5]


def test_x1_5_upscaler_makes_three_quarters():
    facts = Facts(version=(2, 3), variant=None, num_layers=6, first_tokens=1, upscale=1.5)
    assert [stage.share for stage in recipe(facts).stages] == [0.5, 0.75]


def test_keyframes_keep_the_sound_of_the_second_stage():
    found = recipe(pipeline="keyframe", audio=True)
    assert found.stages[found.sound_of].name == "stage 2"
    assert recipe(pipeline="dev-two-stage", audio=True).sound_of == 0


def test_block_that_the_model_lacks():
    with pytest.raises(UserError, match="STG block 48: this model has blocks 0 to 47"):
        recipe(pipeline="dev", stg_scale=1.0, stg_blocks=[48])


def test_a_clip_is_changed_as_its_weights_were_taught():
    (stage,) = recipe(pipeline="retake", video="a.mp4", steps=4).stages
    assert stage.sigmas == (1.0, 0.9875, 0.909375, 0.421875, 0.0)
    dev = Facts(version=(2, 3), variant="dev", num_layers=48, first_tokens=1)
    (stage,) = recipe(dev, pipeline="retake", video="a.mp4", steps=9, cfg_scale=2).stages
    assert stage.sigmas == shifted(9)
    assert stage.guidance["video"].cfg == 2
    for asked in ({"cfg_scale": 2}, {"max_batch_size": 2}):
        with pytest.raises(UserError, match="distilled weights have no guidance; dev weights"):
            recipe(pipeline="retake", video="a.mp4", **asked)
