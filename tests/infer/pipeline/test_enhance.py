import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from ltx_infer.config import build
from ltx_infer.generate import enhance_each
from ltx_infer.job import prepare_job
from ltx_infer.pipeline.enhance import instruction, tidied
from ltx_models.text_encoder.answer import answers, can_see
from ltx_models.text_encoder.gemma import load_gemma, load_whole_gemma
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.text_encoder.tokenizer import load_tokenizer

GIVEN = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9, "prompt": "a boat"}


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def gemma(tiny: Path) -> Path:
    return tiny / "gemma-3-tiny"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            ' "A white boat\n\nsails past. The sea roars."',
            "A white boat sails past. The sea roars.",
        ),
        ("**A white boat sails past. And it tur", "A white boat sails past."),
        ("A boat of 3.5 m sails. It tur", "A boat of 3.5 m sails."),
        ('He says "come here!" And he', 'He says "come here!"'),
        ("a white boat in the sun", "a white boat in the sun"),
        ("\ufffd\x07 \u200b", None),
        ("Sure.", None),
        ("", None),
    ],
)
def test_an_answer_becomes_a_paragraph(text, found):
    assert tidied(text) == found


def test_what_is_asked_goes_by_the_clip(tiny):
    def asked(with_picture: bool = False, **given) -> str:
        recipe = prepare_job(build({**GIVEN, **given}), say=quiet).recipe
        return instruction("a boat", recipe, with_picture=with_picture)

    assert asked().endswith("The idea: a boat")
    assert "heard" not in asked()
    assert "heard" in asked(audio=True)
    assert "begins with this picture" in asked(with_picture=True)
    sound = {"pipeline": "t2a", "num_frames": 65}
    job = build({k: v for k, v in {**GIVEN, **sound}.items() if k not in ("height", "width")})
    said = instruction("rain", prepare_job(job, say=quiet).recipe, with_picture=False)
    assert "There is no picture" in said
    assert "camera" not in said


def test_the_answer_is_the_likeliest_text(gemma):
    """Token by token, as the whole network without a cache gives it."""
    model = load_whole_gemma(gemma, read_gemma_config(gemma), dtype=mx.float32)
    tokenizer = load_tokenizer(gemma)
    text = "<bos><start_of_turn>user\nhow?<end_of_turn>\n<start_of_turn>model\n"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.token_to_id("<start_of_turn>") in ids
    wanted: list[int] = []
    for _ in range(5):
        wanted.append(int(mx.argmax(model(mx.array([ids + wanted]))[0, -1]).item()))
    (found,) = answers(gemma, [" how? "], max_tokens=5, dtype=mx.float32)
    assert found == tokenizer.decode(wanted)
    assert load_gemma(gemma, read_gemma_config(gemma), dtype=mx.float32).layers


def test_a_prompt_stays_where_the_answer_is_of_no_use(tiny):
    config = build({**GIVEN, "enhance_prompt": True})
    said: list[str] = []
    job = prepare_job(config, say=quiet)
    configs = [config, config.model_copy(update={"seed": 8})]
    found = enhance_each(job, configs, report=quiet, say=said.append)
    assert [each.text for each in found] == [found[0].enhanced_prompt] * 2
    assert len(said) == 1  # one prompt, whatever became of it
    assert "enhance" in said[0]
    again = enhance_each(job, found, report=quiet, say=said.append)
    assert again == found
    assert len(said) == 1


def write_seeing(folder: Path, gemma: Path) -> None:
    """The stand-in's Gemma with eyes, as transformers' files have it."""
    from mlx_vlm import utils  # noqa: PLC0415

    config = json.loads((gemma / "config.json").read_text())
    config["text_config"]["mm_tokens_per_image"] = 4
    config["vision_config"] = {
        "model_type": "gemma3",
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "patch_size": 4,
        "image_size": 16,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((gemma / "tokenizer.json").read_bytes())
    arch, _ = utils.get_model_and_args(config)
    sizes = arch.ModelConfig.from_dict(dict(config))
    sizes = utils.update_module_configs(sizes, arch, config, ["text", "vision"])
    model = arch.Model(sizes)
    mx.random.seed(3)
    model.update(tree_map(lambda w: mx.random.normal(w.shape) * 0.3, model.parameters()))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


@pytest.mark.slow
def test_a_gemma_with_eyes_sees_the_picture(gemma, tmp_path):
    assert not can_see(gemma)
    write_seeing(tmp_path / "seeing", gemma)
    assert can_see(tmp_path / "seeing")
    dark, light = np.zeros((20, 30, 3), np.uint8), np.full((20, 30, 3), 255, np.uint8)

    def said(picture: np.ndarray | None) -> list[str]:
        return answers(
            tmp_path / "seeing", ["what?", "why?"], picture=picture, max_tokens=8, dtype=mx.float32
        )

    assert said(dark) == said(dark)
    assert said(dark) != said(light)
