import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.generate import generate
from ltx_infer.job import Job, prepare_job
from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.models import ClipSize
from ltx_infer.pipeline.run import run
from ltx_infer.pipeline.text import contexts_of
from ltx_infer.sampling.state import seeded_noise
from ltx_models.errors import UserError
from ltx_models.text_encoder import PromptContext
from ltx_models.transformer import load_transformer
from ltx_models.weights import shapes


def silent(stage: str, done: int, total: int) -> None:
    pass


def job(*, audio: bool) -> Job:
    given = {"prompt": "x", "model": "tiny", "audio": audio, "height": 64, "width": 128}
    return prepare_job(build({**given, "num_frames": 9}), say=lambda line: None)


def latents(job: Job, size: ClipSize | None = None):
    config = job.models.transformer_config
    video = mx.random.normal((1, 128, config.cross_attention_dim))
    audio = mx.random.normal((1, 128, config.audio_cross_attention_dim))
    contexts = contexts_of(job.recipe, PromptContext(video, audio))
    inputs = [StageInputs() for _ in job.recipe.stages]
    size = size or job.size
    noise = seeded_noise(0)
    return run(job.models, job.recipe, contexts, inputs, size, noise=noise, report=silent)


@pytest.mark.parametrize("audio", [True, False])
def test_shapes_of_latents(tiny, audio):
    first, second = latents(job(audio=audio))
    assert first.video.shape == (1, 16, 2, 1, 2)
    assert second.video.shape == (1, 16, 2, 2, 4)
    sound = None if second.audio is None else second.audio.shape
    assert sound == ((1, 2, 9, 16) if audio else None)


def test_size_that_this_checkpoint_cannot_make(tiny):
    made = job(audio=False)
    with pytest.raises(UserError, match="makes sizes in multiples of 32 and frames in multiples"):
        latents(made, made.size._replace(height=72))


def test_without_sound_its_tower_is_not_loaded(tiny):
    made = job(audio=False)
    alone = made.models.transformer(made.recipe.streams)
    assert not any("audio" in name or "a2v" in name for name in shapes(alone))


def test_every_network_is_freed_before_the_next(tiny, tmp_path):
    """What is in memory when a stage begins is latents and contexts, no network."""
    words = {"prompt": "x", "model": "tiny", "audio": True, "height": 64, "width": 64}
    config = build({**words, "num_frames": 9, "output_path": tmp_path / "a.mp4"})
    before = mx.get_active_memory()
    at_start: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        if done == 0:
            at_start[stage] = mx.get_active_memory() - before

    generate(config, report=report)
    stages = ["text", "stage 1, 32x32", "upscale", "stage 2, 64x64", "sound", "decode"]
    assert list(at_start) == stages
    checkpoint = job(audio=True).models.checkpoint
    weights = shapes(load_transformer(checkpoint, dtype=mx.float32))
    num_bytes = 4 * sum(int(np.prod(shape)) for shape in weights.values())
    contexts = 4 * 1024 * (64 + 32)
    assert max(at_start.values()) < contexts + num_bytes / 10


def test_a_prompt_that_is_cut_is_told_of(tiny):
    said: list[str] = []
    words = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9, "pipeline": "dev"}
    long = "boats " * 1100
    prepare_job(build({**words, "prompt": "a boat"}), say=said.append)
    assert said == []
    prepare_job(build({**words, "prompt": "a boat", "negative_prompt": long}), say=said.append)
    (line,) = said
    left_out = int(line.split()[5])
    assert line == f"the negative prompt: its last {left_out} tokens are left out; 1024 are read"
    assert left_out > 70
    prepare_job(build({**words, "prompt": long}), say=said.append)
    assert said[1] == f"the prompt: its last {left_out} tokens are left out; 1024 are read"
