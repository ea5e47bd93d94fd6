"""LoRAs that change connectors or text projection do so in generation, and it is said."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.job import Job, prepare_job
from ltx_infer.pipeline.text import encode_each
from ltx_models.errors import UserError
from ltx_models.weights import TensorFile

QUERY = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
LAYER = "transformer_blocks.0.attn1.to_q"
IN_CHECKPOINT = "model.diffusion_model."


def adapter(folder: Path, sides: dict[str, tuple[int, int]], name: str = "words") -> str:
    draw, tensors = np.random.default_rng(0), {}
    for at, (rows, columns) in sides.items():
        tensors[f"diffusion_model.{at}.lora_A.weight"] = mx.array(draw.normal(size=(2, columns)))
        tensors[f"diffusion_model.{at}.lora_B.weight"] = mx.array(draw.normal(size=(rows, 2)))
    mx.save_safetensors(str(folder / f"{name}.safetensors"), tensors)
    return str(folder / f"{name}.safetensors")


@pytest.fixture
def sides(tiny) -> dict[str, tuple[int, int]]:
    """Sizes of a layer of a connector and of one of the transformer."""
    file = TensorFile(tiny / "ltx-2.3-tiny.safetensors")
    shapes = {at: file.infos[f"{IN_CHECKPOINT}{at}.weight"].shape for at in (QUERY, LAYER)}
    return {at: (rows, columns) for at, (rows, columns) in shapes.items()}


def prepared(lora: list, **asked) -> tuple[Job, list[str]]:
    said: list[str] = []
    config = {"prompt": "a boat", "model": "tiny", "lora": [lora], "one_stage": True, **asked}
    return prepare_job(build(config), say=said.append), said


def context(job: Job, *, with_loras: bool) -> mx.array:
    loras = job.loras if with_loras else None
    (contexts,) = encode_each(job.models, job.recipe, ["a boat"], "", loras=loras)
    return contexts["video"].positive


def test_the_prompt_is_encoded_with_the_adapter(sides, tmp_path):
    job, said = prepared([adapter(tmp_path, sides)])
    assert said == ["words.safetensors: 1 of its layers are of the text path"]
    assert not mx.allclose(context(job, with_loras=True), context(job, with_loras=False), atol=1e-2)
    job, _ = prepared([adapter(tmp_path, sides), 0.0])
    assert mx.array_equal(context(job, with_loras=True), context(job, with_loras=False))


def test_one_that_is_asked_for_twice_is_there_twice(sides, tmp_path):
    path = adapter(tmp_path, sides)
    said: list[str] = []
    config = {"prompt": "a boat", "model": "tiny", "lora": [[path, 0.25]] * 2, "one_stage": True}
    twice = prepare_job(build(config), say=said.append)
    once, _ = prepared([path, 0.5])
    assert said == ["words.safetensors: 1 of its layers are of the text path"]
    assert mx.allclose(
        context(twice, with_loras=True), context(once, with_loras=True), rtol=1e-5, atol=1e-5
    )


def test_other_adapters_leave_the_prompt_alone(sides, tmp_path):
    job, said = prepared([adapter(tmp_path, {LAYER: sides[LAYER]})])
    assert said == []
    assert mx.array_equal(context(job, with_loras=True), context(job, with_loras=False))


def test_stages_that_differ_share_the_prompt_s(sides, tmp_path):
    path = adapter(tmp_path, {QUERY: sides[QUERY]})
    _, said = prepared([path, 0.6], one_stage=False, pipeline="ic-lora")
    line = "1 of its layers are of the text path, which all stages share; there it has strength 0.6"
    assert f"words.safetensors: {line}" in said


def test_sizes_are_compared_before_anything_is_computed(sides, tmp_path):
    with pytest.raises(UserError, match=rf"(?s)other sizes:\n{QUERY}: \(2, 3\) in the file"):
        prepared([adapter(tmp_path, {QUERY: (2, 3)})])


def test_what_speaks_against_a_file_is_said(sides, tmp_path):
    path = adapter(tmp_path, {LAYER: sides[LAYER]})
    tensors = mx.load(path)
    mx.save_safetensors(path, tensors, {"ss_base_model_version": "ltx2.5"})
    _, said = prepared([path])
    assert said[0].startswith("words.safetensors: made for ltx2.5 by its metadata, and this model")
