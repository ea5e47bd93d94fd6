import json
from pathlib import Path

import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.media.write import write_clip, write_wav
from ltx_infer.pipeline.made_with import differences
from ltx_infer.settings import (
    check_not_itself,
    comment_of,
    read_settings,
    repeated,
    settings_in,
)
from ltx_models.errors import UserError

MADE_WITH = {
    "mlx": "1",
    "device": "cpu",
    "checkpoint": {"name": "a.safetensors", "hash": "12"},
    "text_encoder": {"name": "gemma", "hash": "34", "chosen": "mlx-community/gemma"},
    "loras": [{"name": "boats.safetensors", "hash": "56", "strength": [1.0, None]}],
}


def clip(path: Path, comment: str) -> Path:
    write_clip(path, [np.zeros((1, 16, 16, 3), np.uint8)], fps=24, comment=comment)
    return path


def back(path: Path, given: dict | None = None, **how) -> tuple[dict, list[str]]:
    said: list[str] = []
    fields, _ = repeated(path, given or {}, say=said.append, **how)
    return fields, said


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "first.png").write_bytes(b"a picture")
    return tmp_path / "first.png"


@pytest.fixture
def made(tmp_path: Path, picture: Path) -> Path:
    config = build(
        {
            "prompt": "ein Boot \u2600 'am' \"Ufer\"",
            "pipeline": "dev",
            "image": [[str(picture), 8, 0.5]],
            "lora": [["user/repo", 0.5]],
            "fps": 24000 / 1001,
            "stg_blocks": [1, 2],
            "output_path": "x.mov",
        }
    )
    return clip(tmp_path / "made.mp4", comment_of(config, MADE_WITH))


def test_a_clip_gives_back_what_was_asked_for(made, picture):
    fields, said = back(made)
    assert said == []
    assert fields.pop("text_encoder_repo") == "mlx-community/gemma"  # which memory chose
    assert fields.pop("output_path") == "output.mov"
    config = build(fields)
    assert config.prompt == "ein Boot \u2600 'am' \"Ufer\""
    assert (config.fps, config.stg_blocks, config.lora[0].strength) == (24000 / 1001, (1, 2), 0.5)
    assert (config.image[0].path, config.image[0].frame) == (picture, 8)
    assert config.model_fields_set == {"prompt", "pipeline", "image", "lora", "fps", "stg_blocks"}


def test_flags_take_the_place_of_what_the_clip_says(made):
    fields, _ = back(made, {"prompt": "a train", "output_path": "x.mp4", "text_encoder_repo": "g"})
    assert (fields["prompt"], fields["pipeline"]) == ("a train", "dev")
    assert (fields["output_path"], fields["text_encoder_repo"]) == ("x.mp4", "g")
    assert "prompt" not in back(made, new_prompts=True)[0]


def test_what_memory_decided_is_kept_where_a_run_is_as_large(tmp_path):
    chosen = {"chosen": {"tiling": "aggressive", "max_batch_size": 2}}
    config = build({"prompt": "x", "pipeline": "dev", "max_batch_size": 3})
    path = clip(tmp_path / "a.mp4", comment_of(config, chosen))
    same = back(path, {"seed": 7, "output_path": "b.mp4"})[0]
    assert (same["tiling"], same["max_batch_size"]) == ("aggressive", 3)
    assert "tiling" not in back(path, {"height": 1024})[0]


def test_an_enhanced_prompt_is_kept_with_its_prompt_and_goes_with_it(tmp_path):
    config = build({"prompt": "a boat", "enhance_prompt": True})
    config = config.model_copy(update={"enhanced_prompt": "A white boat."})
    path = clip(tmp_path / "a.mp4", comment_of(config, {}))
    assert build(back(path)[0]).text == "A white boat."
    other = build(back(path, {"prompt": "a train"})[0])
    assert (other.text, other.enhance_prompt, other.enhanced_prompt) == ("a train", True, None)


def test_defaults_of_another_time_are_kept(made):
    said = json.loads(comment_of(build({"prompt": "x"}), {}))
    said["defaults"]["cfg_scale"] = 4.5
    path = clip(made.with_name("old.mp4"), json.dumps(said))
    fields, _ = back(path)
    assert fields == {"prompt": "x", "cfg_scale": 4.5, "output_path": "output.mp4"}


def test_a_file_that_changed_is_told_of_and_one_that_is_gone_is_not(made, picture):
    picture.write_bytes(b"another")
    assert back(made)[1] == [f"--from {made}: {picture} is not the file that it was"]
    picture.unlink()
    assert back(made)[1] == []


def test_another_version_is_told_of(made):
    said = json.loads(comment_of(build({"prompt": "x"}), {}))
    path = clip(made.with_name("old.mp4"), json.dumps({**said, "ltx-mlx": "0.0.1"}))
    assert back(path)[1] == [
        f"--from {path}: made by ltx-mlx 0.0.1, this is {read_settings(made).version}"
    ]


def test_what_came_after_is_not_repeated_and_that_is_told(made, tmp_path):
    said = {**json.loads(comment_of(build({"prompt": "x"}), {})), "upscaled": [{"scale": 2.0}]}
    path, told = clip(tmp_path / "larger.mp4", json.dumps(said)), []
    repeated(path, {}, say=told.append)
    assert told == [f"--from {path}: it is repeated as it was before ltx-upscale"]
    repeated(made, {}, say=told.append)
    assert len(told) == 1


def test_settings_that_this_version_does_not_know(made):
    said = json.loads(comment_of(build({"prompt": "x"}), {}))
    said["settings"]["sparkle"] = 1
    path = clip(made.with_name("new.mp4"), json.dumps(said))
    with pytest.raises(UserError, match=r"which had settings that .* does not know: sparkle"):
        back(path)
    said["settings"] = {"prompt": "x", "num_frames": "many"}
    with pytest.raises(UserError, match=r"new\.mp4: num_frames: Input should be a valid integer"):
        back(clip(path, json.dumps(said)))


@pytest.mark.parametrize("comment", [None, "", "by me", "{}", "[1]", '{"settings": 3}'])
def test_a_clip_that_is_not_ours(tmp_path, comment):
    path = tmp_path / "a.mp4"
    write_clip(path, [np.zeros((1, 16, 16, 3), np.uint8)], fps=24, comment=comment)
    with pytest.raises(UserError, match=r"a\.mp4: its comment holds no settings of ltx-mlx"):
        back(path)


def test_a_comment_that_would_lead_astray():
    said = json.loads(comment_of(build({"prompt": "x"}), MADE_WITH))
    assert settings_in(json.dumps(said)) is not None
    for field, value in (
        ("ending", "/../../x.mp4"),
        ("settings", 3),
        ("files", {"a": 1}),
        ("models", {"checkpoint": "a"}),
        ("models", {"chosen": []}),
        ("upscaled", 2),
    ):
        assert settings_in(json.dumps({**said, field: value})) is None
    assert settings_in("[" * 100_000) is None


def test_a_sound_has_them_too(tmp_path):
    config = build({"prompt": "Regen \u2614", "pipeline": "t2a"})
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4801)).astype(np.float32)
    write_wav(tmp_path / "a.wav", sound, rate=48000, comment=comment_of(config, {}))
    fields, _ = back(tmp_path / "a.wav")
    assert (fields["prompt"], fields["output_path"]) == ("Regen \u2614", "output.wav")


def test_the_new_clip_is_not_the_old_one(made, tmp_path):
    check_not_itself(made, tmp_path / "other.mp4")
    with pytest.raises(UserError, match="the new clip would take its place"):
        check_not_itself(made, made)


def test_other_models_are_told_of():
    assert differences({}, MADE_WITH) == []
    assert differences(MADE_WITH, MADE_WITH) == []
    other = {
        "mlx": "2",
        "device": "gpu",
        "checkpoint": {"name": "b.safetensors", "hash": "78"},
        "loras": [],
    }
    assert differences(MADE_WITH, other) == [
        "checkpoint: then a.safetensors (12), now b.safetensors (78)",
        "text encoder: then gemma (34), now none",
        "LoRAs: then boats.safetensors (56), now none",
        "computed then with mlx 1 on cpu, now with mlx 2 on gpu: last digits may differ",
    ]


def test_nothing_secret_is_in_a_comment():
    found = settings_in(comment_of(build({"prompt": "x"}), {}))
    assert found is not None
    assert not {"token", "output_path"} & (found.asked.keys() | found.defaults.keys())
