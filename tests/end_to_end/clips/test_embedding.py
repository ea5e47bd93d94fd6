"""Prompts that ltx-precompute encoded, in the place of Gemma."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.job import prepare_job
from ltx_infer.pipeline.embedding import dummy_contexts, embedded_contexts
from ltx_infer.pipeline.text import encode_each
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.weights import TensorFile, read_lazily
from ltx_train.precompute import cli as precompute
from tests.end_to_end.conftest import read_clip

SMALL = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9, "one_stage": True}
WORDS = ("--model", "tiny", "-H", "64", "-W", "64", "-n", "9")
GUIDED = ("--pipeline", "dev", "--steps", "3", "--audio")


@pytest.fixture(scope="module")
def encoded(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "prompts.txt").write_text("a boat at dusk\n")
    words = ["--prompts-only", "--prompts-file", str(folder / "prompts.txt"), "--model", "tiny"]
    precompute.main([*words, "--output-dir", str(folder), "--negative-prompt", "grey"])
    return folder / "001-a-boat-at-dusk.safetensors"


@pytest.fixture
def folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model that has no text encoder, and a hub that cannot be asked."""
    (tmp_path / "model").mkdir()
    for path in tiny.iterdir():
        if path.is_file():
            (tmp_path / "model" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(given: dict) -> str:
    with pytest.raises(UserError) as error:
        prepare_job(build({**SMALL, **given}), say=lambda line: None)
    return str(error.value)


@pytest.mark.slow
def test_the_clip_is_that_of_the_prompt_and_needs_no_gemma(folder, encoded, capsys):
    main([*WORDS, *GUIDED, "a boat at dusk", "--negative-prompt", "grey", "-o", "a.mp4"])
    main(["--model", "model", *WORDS[2:], *GUIDED, "--embedding", str(encoded), "-o", "b.mp4"])
    a, b = read_clip(folder / "a.mp4"), read_clip(folder / "b.mp4")
    assert np.array_equal(a.frames, b.frames)
    assert np.array_equal(a.sound, b.sound)
    main(["--info", "b.mp4"])
    assert "a boat at dusk" in capsys.readouterr().out


def test_one_of_other_weights_is_refused(folder, encoded):
    tensors, about = read_lazily(encoded), TensorFile(encoded).metadata
    write_tensors(Path("other.safetensors"), tensors, {**about, "model_hash": "1-2"})
    said = refused({"embedding": "other.safetensors"})
    assert said.startswith("--embedding other.safetensors: made with model version 2.3.0, weights ")
    assert "Encode the prompt with this model: ltx-precompute --prompts-only" in said
    write_tensors(Path("older.safetensors"), tensors, {**about, "model_version": "2.0"})
    assert "made with model version 2.0" in refused({"embedding": "older.safetensors"})


def test_what_goes_with_no_embedding(encoded):
    given = {"embedding": str(encoded)}
    assert "--prompt: --embedding has its own" in refused({**given, "prompt": "a boat"})
    assert "--enhance-prompt: there is no text encoder" in refused(
        {**given, "enhance_prompt": True}
    )
    assert "--embedding and --dummy-embeddings" in refused({**given, "dummy_embeddings": True})
    assert "no such file" in refused({"embedding": "gone.safetensors"})


def test_files_that_are_no_embedding(folder, tiny):
    checkpoint = str(tiny / "ltx-2.3-tiny.safetensors")
    assert "it has no video_prompt_embeds; ltx-precompute" in refused({"embedding": checkpoint})
    Path("a.safetensors").write_text("no")
    assert "--embedding a.safetensors: ltx-precompute" in refused({"embedding": "a.safetensors"})
    Path("a.npz").write_text("no")
    assert "--embedding a.npz: cannot be read" in refused({"embedding": "a.npz"})
    np.savez("b.npz", other=np.zeros(3))
    assert "--embedding b.npz: it has no 'embedding' of one prompt" in refused(
        {"embedding": "b.npz"}
    )


def test_an_npz_of_the_first_port(folder):
    """It holds the connector's output, padded; and the same context comes of it."""
    job = prepare_job(build({**SMALL, "prompt": "a boat"}), say=lambda line: None)
    (contexts,) = encode_each(job.models, job.recipe, ["a boat"], "")
    context = np.array(contexts["video"].positive)
    padded = np.concatenate([context, np.ones_like(context[:, :8])], axis=1)
    mask = np.arange(padded.shape[1])[None] < context.shape[1]
    np.savez("a.npz", embedding=padded, attention_mask=mask.astype(np.int32), prompt="a boat")
    given = {"embedding": "a.npz"}
    other = prepare_job(build({**SMALL, **given}), say=lambda line: None)
    assert other.embedding is not None
    assert other.embedding.prompt == "a boat"
    found = embedded_contexts(other.models, other.recipe, other.embedding, loras=other.loras)
    assert np.array_equal(np.array(found["video"].positive), context)
    assert "an .npz tells of no sound" in refused({**given, "audio": True})
    guided = {**given, "pipeline": "dev", "one_stage": False}
    assert "an .npz has no negative prompt" in refused(guided)
    np.savez("a.npz", embedding=padded[..., :7])
    assert "it has 7 numbers a token, this model takes 64" in refused(given)


def test_dummy_embeddings_are_said_and_seeded_by_the_prompt(folder, capsys):
    words = ["--model", "model", *WORDS[2:], "--one-stage", "--dummy-embeddings"]
    main([*words, "a boat", "-o", "a.mp4"])
    assert "--dummy-embeddings: random numbers, which the prompt only seeds" in (
        capsys.readouterr().err
    )
    given = {**SMALL, "prompt": "a boat", "dummy_embeddings": True, "pipeline": "dev"}
    given.pop("one_stage")
    job = prepare_job(build(given), say=lambda line: None)
    prompts = ["a boat", "a train", "a boat"]
    one, other, again = dummy_contexts(job.models, job.recipe, prompts, "grey", loras=job.loras)
    assert mx.array_equal(one["video"].positive, again["video"].positive)
    assert not mx.array_equal(one["video"].positive, other["video"].positive)
    assert mx.array_equal(one["video"].negative, other["video"].negative)


def test_a_lora_on_the_text_projection_comes_too_late(folder, encoded):
    parts = {"lora_A.weight": mx.ones((1, 192)), "lora_B.weight": mx.ones((64, 1))}
    name = "text_embedding_projection.video_aggregate_embed"
    mx.save_safetensors("text.safetensors", {f"{name}.{k}": v for k, v in parts.items()})
    said = refused({"embedding": str(encoded), "lora": [["text.safetensors"]]})
    assert said.endswith("text.safetensors changes the text projection, whose work is done")
