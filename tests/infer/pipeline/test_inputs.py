import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.job import Job, prepare_job
from ltx_infer.pipeline.inputs import Media, ReferenceClip, Sound, encode


def silent(stage: str, done: int, total: int) -> None:
    pass


def job() -> Job:
    given = {"prompt": "x", "model": "tiny", "height": 64, "width": 64, "num_frames": 17}
    return prepare_job(build(given), say=lambda line: None)


@pytest.mark.parametrize(("time_factor", "weights"), [(1, (1, 0.5, 0.75)), (2, (1, 0.625))])
def test_a_mask_of_a_reference_holds_for_the_frames_that_its_latents_show(
    tiny, time_factor, weights
):
    made = job()
    mask = np.zeros((1, 1, 17, 64, 64), np.float32)
    mask[:, :, [0, *range(1, 5), *range(9, 15)]] = 1
    frames = np.zeros((17, 64, 64, 3), np.uint8)
    clip = ReferenceClip(frames, time_factor=time_factor, attention=mask)
    first, second = encode(
        made.models, Media(references=(clip,)), made.recipe, made.size, report=silent
    )
    (reference,) = first.video
    assert reference.latents.shape == (1, 16, len(weights), 1, 1)
    assert mx.allclose(mx.array(reference.attention), mx.array([weights]))
    assert not second.video


@pytest.mark.parametrize("beside", [False, True])
def test_a_reference_sound_lies_before_the_clip_or_at_its_times(tiny, beside):
    given = {"prompt": "x", "model": "tiny", "height": 64, "width": 64, "num_frames": 17}
    made = prepare_job(build({**given, "audio": True}), say=lambda line: None)
    sound = Sound(
        np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16_000)).astype(np.float32), 16_000
    )
    media = Media(reference_sound=sound, reference_beside=beside)
    (condition, *_) = encode(made.models, media, made.recipe, made.size, report=silent)[0].audio
    positions = np.array(condition.positions)
    if beside:
        assert positions.min() == 0
    else:
        assert positions.max() == pytest.approx(-0.04, abs=1e-6)
