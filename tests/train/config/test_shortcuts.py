import pytest

from ltx_models.errors import UserError
from ltx_train.config import read_run


@pytest.mark.parametrize(
    ("given", "override"),
    [
        ({"pipeline": "distilled"}, "model.allow_distilled=true"),
        ({"pipeline": "dev"}, "model.allow_distilled=false"),
        ({"training_mode": "full"}, "model.training_mode=full"),
        ({"strategy": "text_to_video"}, "training_strategy={name: text_to_video}"),
        ({"strategy": "video_to_video"}, "training_strategy={name: video_to_video}"),
        ({"strategy": "ic_lora"}, "training_strategy={name: video_to_video}"),
        ({"strategy": "flexible"}, "training_strategy.name=flexible"),
        ({"data_root": "d"}, "data.preprocessed_data_root=d"),
        ({"steps": 7}, "optimization.steps=7"),
        ({"validation_interval": 7}, "validation.interval=7"),
        ({"validation_prompts": "a b, c"}, "validation.samples=[{prompt: a b}, {prompt: c}]"),
        ({"wandb_enabled": True}, "wandb.enabled=true"),
        ({"hub_push": True, "hub_model_id": "a/b"}, "hub={push_to_hub: true, hub_model_id: a/b}"),
    ],
)
def test_a_shortcut_sets_the_key(read, given, override):
    assert read(shortcuts=given) == read(override)


def test_prompts_from_a_file(read, tmp_path):
    (tmp_path / "prompts.txt").write_text("waves, and wind\n\n  rain \n")
    config, _ = read(shortcuts={"validation_prompts": f"@{tmp_path}/prompts.txt"})
    assert [sample.prompt for sample in config.validation.samples] == ["waves, and wind", "rain"]


def test_overrides_go_over_shortcuts(read):
    assert read("optimization.steps=9", shortcuts={"steps": 7}).config.optimization.steps == 9


def test_another_strategy_drops_the_samples_of_the_one_before():
    config, notes = read_run(None, shortcuts={"strategy": "ic_lora"})
    assert config.validation.samples == ()
    assert config.training_strategy.video.conditions[0].type == "reference"
    assert notes[0] == (
        "--strategy video_to_video: validation.samples of the configuration are not used"
    )


def test_the_same_strategy_keeps_its_keys(read):
    legacy = "training_strategy={name: text_to_video, with_audio: true}"
    text = "model: {model_path: tiny}\nlora: {}\ndata: {preprocessed_data_root: d}\n"
    text += legacy.replace("=", ": ", 1)
    config, _ = read(text=text, shortcuts={"strategy": "text_to_video"})
    assert config.training_strategy.audio is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"validation_prompts": "@gone.txt"}, "--validation-prompts gone.txt: no such file"),
        ({"validation_prompts": " , "}, "--validation-prompts  , : there is no prompt in it"),
        ({"steps": 0}, "optimization.steps: Input should be greater than or equal to 1, got 0"),
        ({"hub_push": True}, "hub.hub_model_id: is required to push to the hub"),
    ],
)
def test_bad_shortcuts(read, given, said):
    with pytest.raises(UserError) as error:
        read(shortcuts=given)
    assert said in str(error.value)


def test_prompts_that_are_no_text(read, tmp_path):
    (tmp_path / "p").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no UTF-8 text"):
        read(shortcuts={"validation_prompts": f"@{tmp_path}/p"})


def test_flexible_cannot_be_guessed(read):
    legacy = {"shortcuts": {"strategy": "flexible"}}
    with pytest.raises(UserError, match=r"--strategy flexible: the configuration has another one"):
        read(text="training_strategy: {name: text_to_video}", **legacy)
