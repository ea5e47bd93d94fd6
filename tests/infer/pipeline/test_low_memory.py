"""Stages with a transformer that is read from disk, block by block."""

import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.generate import make_latents
from ltx_infer.job import prepare_job
from ltx_infer.sampling.state import seeded_noise
from ltx_models.errors import UserError

SMALL = {"prompt": "x", "model": "tiny", "height": 64, "width": 64, "num_frames": 9, "steps": 1}
GUIDED = {"pipeline": "dev-two-stage", "audio": True, "stg_scale": 1.0, "modality_scale": 2.0}


def latents(**asked):
    job = prepare_job(build({**SMALL, **asked}), say=lambda line: None)
    found = make_latents(job, report=lambda *_: None, noise=seeded_noise(0))
    assert job.models.low_memory is asked.get("low_memory", False)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [{**GUIDED, "lora_mode": "attach"}, {**GUIDED, "max_batch_size": 4, "quantize": 4}],
    ids=["guided, with a LoRA in its second stage", "quantised, passes in batches"],
)
def test_latents_are_those_of_a_model_in_memory(tiny, asked):
    for got, wanted in zip(latents(**asked, low_memory=True), latents(**asked), strict=True):
        assert mx.abs(got - wanted).max() <= 1e-5 * mx.abs(wanted).max()


def test_loras_are_attached(tiny):
    job = prepare_job(build({**SMALL, **GUIDED, "low_memory": True}), say=lambda line: None)
    assert job.loras.mode == "attach"
    with pytest.raises(UserError, match="--lora-mode fuse: --low-memory reads weights anew"):
        prepare_job(
            build({**SMALL, **GUIDED, "low_memory": True, "lora_mode": "fuse"}),
            say=lambda line: None,
        )
