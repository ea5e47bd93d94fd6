"""What a text encoder takes."""

import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.job import prepare_job
from ltx_infer.plan.text import encoder_bytes, most_tokens
from ltx_models.text_encoder.connector import MAX_LENGTH
from tests.full_size import write_empty

TEXT_PARTS = ["text encoder", "text features", "text connectors"]


def test_a_text_encoder_as_it_will_be_read(tiny):
    (gemma,) = tiny.glob("*/config.json")
    size = sum(path.stat().st_size for path in gemma.parent.glob("model*.safetensors"))
    found = encoder_bytes(gemma.parent, mx.bfloat16)
    assert abs(found - size) < 0.2 * size
    assert encoder_bytes(gemma.parent, mx.float32) == 2 * found


def test_eyes_are_not_read(tmp_path):
    shapes = {"language_model.model.norm.weight": (10,), "vision_tower.weight": (1000,)}
    write_empty(tmp_path / "model.safetensors", shapes, {})
    assert encoder_bytes(tmp_path, mx.float32) == 40


def test_a_prompt_has_no_more_tokens_than_bytes():
    assert most_tokens("a boat") == 7
    assert most_tokens("x" * 5000) == MAX_LENGTH


@pytest.mark.parametrize("dummy", [True, False])
def test_texts_that_come_encoded_need_the_connectors_alone(tiny, dummy):
    given = {"prompt": "x", "model": "tiny", "height": 64, "width": 64, "num_frames": 9}
    asked = build({**given, "one_stage": True, "dummy_embeddings": dummy})
    plan = prepare_job(asked, say=lambda line: None).chosen.plan
    names = [part.name for part in plan.parts if part.name.startswith("text")]
    assert names == (["text connectors"] if dummy else TEXT_PARTS)
