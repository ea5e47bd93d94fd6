from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.generate import generate, open_models
from ltx_infer.pipeline import ClipSize, Models, decode_audio, decode_video, distilled
from ltx_infer.state import seeded_noise
from ltx_models.errors import UserError
from ltx_models.text_encoder import PromptContext
from ltx_models.transformer import load_transformer
from ltx_models.weights import shapes
from tests.conftest import GOLDEN
from tests.parity.case import read_case
from tests.parity.test_golden import compare


def silent(stage: str, done: int, total: int) -> None:
    pass


def test_recorded_noise_gives_the_recorded_clip():
    case = read_case(GOLDEN, "pipeline_distilled_ltx23")
    upscaler = GOLDEN / "upscaler-x2-tiny.safetensors"
    models = Models(case.checkpoint, gemma=Path("unused"), upscaler=upscaler, dtype=mx.float32)
    names = ("video_context", "audio_context")
    context = PromptContext(*(case.inputs[f"pos.{name}"] for name in names))
    recorded = [value for name, value in sorted(case.inputs.items()) if name.startswith("noise.")]
    draws = iter(recorded)
    size = ClipSize(*(case.params[key] for key in ("num_frames", "height", "width", "fps")))

    latents = distilled(models, context, size, noise=lambda shape: next(draws), report=silent)
    frames = np.concatenate(list(decode_video(models, latents.video)))
    waveform, rate = decode_audio(models, latents.audio)
    rows = [slice(None, None, step) for step in case.params["out_stride"]]
    got = {
        "stage2.video_latent": np.array(latents.video),
        "stage2.audio_latent": np.array(latents.audio),
        "frames": frames[tuple(rows)],
        "waveform": waveform[:, :: case.params["wave_stride"]],
    }
    assert rate == 48000
    assert next(draws, None) is None
    for name, value in got.items():
        assert compare(value, case.expected[name], case.tolerance[name]) is None, name


@pytest.fixture(scope="module")
def models(tiny) -> Models:
    return open_models(build({"prompt": "x", "model": "tiny", "audio": True}))


def random_context(models: Models, *, audio: bool) -> PromptContext:
    config = models.transformer_config
    video = mx.random.normal((1, 128, config.cross_attention_dim))
    sound = mx.random.normal((1, 128, config.audio_cross_attention_dim))
    return PromptContext(video, sound if audio else None)


SIZE = ClipSize(num_frames=9, height=64, width=128, fps=24)


@pytest.mark.parametrize("audio", [True, False])
def test_shapes_of_latents(models, audio):
    context = random_context(models, audio=audio)
    latents = distilled(models, context, SIZE, noise=seeded_noise(0), report=silent)
    assert latents.video.shape == (1, 16, 2, 2, 4)
    assert (None if latents.audio is None else latents.audio.shape) == (
        (1, 2, 9, 16) if audio else None
    )


def test_size_that_this_checkpoint_cannot_make(models):
    context = random_context(models, audio=False)
    with pytest.raises(UserError, match="makes sizes in multiples of 32 and frames in multiples"):
        distilled(models, context, SIZE._replace(height=72), noise=seeded_noise(0), report=silent)


def test_without_sound_its_tower_is_not_loaded(models):
    alone = load_transformer(models.checkpoint, dtype=mx.float32, streams=("video",))
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
    assert list(at_start) == ["text", "stage 1, 32x32", "stage 2, 64x64", "sound", "decode"]
    checkpoint = open_models(config).checkpoint
    weights = shapes(load_transformer(checkpoint, dtype=mx.float32))
    num_bytes = 4 * sum(int(np.prod(shape)) for shape in weights.values())
    contexts = 4 * 1024 * (64 + 32)
    assert max(at_start.values()) < contexts + num_bytes / 10
