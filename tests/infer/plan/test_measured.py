"""The plan against the most that MLX holds, part by part: within 15 % or 64 MB of it."""

import gc
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer.config import build
from ltx_infer.generate import make_latents
from ltx_infer.job import Job, prepare_job
from ltx_infer.pipeline.run import decode_audio, decode_video
from ltx_infer.plan.plan import Plan
from ltx_infer.sampling.state import seeded_noise
from ltx_models import peak
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from tests.infer.plan.medium import medium_config, write_lora, write_medium

SHARE, MB = 0.15, 1e6
SMALL = 64 * MB


class Peaks:
    """The most that is held in each part of a run."""

    def __init__(self):
        gc.collect()
        mx.clear_cache()
        self.found: dict[str, int] = {}

    def __call__(self, stage: str, done: int, _total: int) -> None:
        name = stage.split(",")[0]
        if not done:
            self.open = peak.begin()
        peak.look()
        self.found[name] = max(self.found.get(name, 0), self.open.num_bytes)

    def off(self, plan: Plan, part: str, *, slack: float) -> str:
        """By how much a part took more or less than planned, where that is too much."""
        planned = max(each.total for each in plan.parts if each.name.startswith(part))
        measured = self.found[part]
        near = abs(planned - measured) <= max(SHARE * measured, slack)
        said = f"{part}: planned {planned / MB:.1f}, measured {measured / MB:.1f} MB"
        return "" if near else said

    def all_off(self, plan: Plan, *, slack: float) -> list[str]:
        """The parts that are."""
        return [off for part in self.found if (off := self.off(plan, part, slack=slack))]


def job_of(**asked) -> Job:
    return prepare_job(build({"prompt": "a boat", **asked}), say=lambda line: None)


def decoded(job: Job, latents, peaks: Peaks) -> None:
    if latents.audio is not None:
        peaks("sound", 0, 1)
        decode_audio(job.models, latents.audio)
        peaks("sound", 1, 1)
    if latents.video is not None:
        peaks("decode", 0, 1)
        for _ in decode_video(job.models, latents.video, tiling=job.chosen.choices.tiling):
            pass
        peaks("decode", 1, 1)


@pytest.mark.parametrize(
    "asked",
    [
        {"audio": True, "num_frames": 33},
        pytest.param(
            {"pipeline": "dev-two-stage", "quantize": 4, "tiling": "none", "steps": 2},
            marks=pytest.mark.slow,
        ),
        {"pipeline": "dev", "low_memory": True, "stg_scale": 1.0, "steps": 2},
    ],
    ids=["with sound", "guided, with a LoRA, quantised", "streamed"],
)
def test_a_small_run(tiny, asked):
    job = job_of(model="tiny", height=64, width=64, **{"num_frames": 9, **asked})
    peaks = Peaks()
    latents = make_latents(job, report=peaks, noise=seeded_noise(0))
    decoded(job, latents, peaks)
    assert len(peaks.found) >= 3
    assert peaks.all_off(job.chosen.plan, slack=24 * MB) == []


@pytest.fixture(scope="module", params=["2.0.0", "2.3.0"])
def medium(request, tmp_path_factory) -> Path:
    return write_medium(tmp_path_factory.mktemp("medium"), request.param)


@pytest.fixture
def files(medium, tiny, tmp_path) -> dict[str, object]:
    """What a run of the medium model is given: pictures of any kind, and a LoRA."""
    (gemma,) = tiny.glob("gemma*")
    version = medium.name.split("-")[1]
    model = Transformer(TransformerConfig.read(medium_config(version)["transformer"]))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return {
        "model": str(medium),
        "text_encoder_repo": str(gemma),
        "lora": str(write_lora(tmp_path / "lora.safetensors", model)),
        "image": str(tmp_path / "photo.png"),
    }


SIZE = {"height": 512, "width": 512, "num_frames": 17, "one_stage": True, "steps": 1}
CASES = {
    "plain": {},
    "with sound": {"audio": True},
    "with a picture": {"image": True, "height": 384},
    "guided, passes in turn": {"pipeline": "dev", "max_batch_size": 1},
    "guided, passes at once": {"pipeline": "dev", "max_batch_size": 3, "stg_scale": 1.0},
    "a LoRA beside the weights": {"lora": True, "lora_mode": "attach", "audio": True},
    "quantised": {"quantize": 4},
    "quantised, streamed, with a LoRA": {"quantize": 8, "low_memory": True, "lora": True},
    "streamed": {"low_memory": True, "audio": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_sampling(files, name, monkeypatch, tmp_path):
    monkeypatch.setenv("LTX_MLX_CACHE", str(tmp_path))
    asked = {**SIZE, **CASES[name]}
    for flag, value in {"lora": (files["lora"],), "image": (files["image"],)}.items():
        if asked.pop(flag, None):
            asked[flag] = value
    given = {key: files[key] for key in ("model", "text_encoder_repo")}
    if asked.get("pipeline") == "dev":
        asked = {key: value for key, value in asked.items() if key != "one_stage"}
    job = job_of(**given, **asked)
    peaks = Peaks()
    make_latents(job, report=peaks, noise=seeded_noise(0))
    assert peaks.all_off(job.chosen.plan, slack=SMALL) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_frames", "size", "tiling"),
    [
        (9, 384, "none"),
        (17, 256, "none"),
        (65, 256, "auto"),
        (65, 384, "aggressive"),
        (97, 128, "conservative"),
    ],
)
def test_decoding(files, num_frames, size, tiling):
    given = {key: files[key] for key in ("model", "text_encoder_repo")}
    job = job_of(
        **given, height=size, width=size, num_frames=num_frames, one_stage=True, tiling=tiling
    )
    shape = (1, 16, *job.models.latent_size(job.size))
    peaks = Peaks()
    peaks("decode", 0, 1)
    for _ in decode_video(job.models, mx.random.normal(shape), tiling=tiling):
        pass
    peaks("decode", 1, 1)
    assert peaks.off(job.chosen.plan, "decode", slack=SMALL) == ""
