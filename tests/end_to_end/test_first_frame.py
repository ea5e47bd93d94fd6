"""A picture given for the first frame at strength 1 is there after every step, bit by bit."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer import Pipeline
from ltx_infer.media.images import image_pixels
from ltx_infer.pipeline import run
from ltx_infer.sampling.denoise import sample
from ltx_models.checkpoint import open_checkpoint
from ltx_models.transformer.patchify import patchify_video
from ltx_models.video_vae import load_video_encoder

SMALL = {"model": "tiny", "height": 64, "width": 128, "num_frames": 9}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:70, :90]
    pixels = np.stack([rows * 3, columns * 2, 255 - rows * 2], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[np.ndarray]]:
    """The picture's tokens after every step of each stage that is sampled from now on."""
    stages: list[list[np.ndarray]] = []

    def watched(*args, **kwargs):
        stages.append([])
        for tokens in sample(*args, **kwargs):
            stages[-1].append(np.array(tokens["video"]))
            yield tokens

    monkeypatch.setattr(run, "sample", watched)
    return stages


@pytest.fixture
def encoded(tiny: Path, picture: Path):
    """The picture's tokens (1, T, C) at a size."""
    checkpoint = open_checkpoint(next(tiny.glob("ltx-2.3-tiny.safetensors")))
    encoder = load_video_encoder(checkpoint, dtype=mx.float32)

    def encode(height: int, width: int) -> np.ndarray:
        pixels = image_pixels(picture, height=height, width=width, crf=33)
        return np.array(patchify_video(encoder(mx.array(pixels))))

    return encode


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 12345))]
)
@pytest.mark.parametrize(
    ("pipeline", "guided"),
    [
        ("distilled", {}),
        ("dev-two-stage", {"steps": 3, "audio": True}),
        ("dev-two-stage-hq", {"steps": 2}),
    ],
)
def test_it_is_exact_after_every_step_of_both_stages(
    steps, encoded, picture, pipeline, guided, seed
):
    Pipeline(pipeline, **SMALL, image=[[picture]], **guided)("a boat", seed=seed)
    first, second = steps
    assert [len(first), len(second)] == [guided.get("steps", 8), 3]
    for stage, given in ((first, encoded(32, 64)), (second, encoded(64, 128))):
        for tokens in stage:
            assert np.array_equal(tokens[:, : given.shape[1]], given)
            assert not np.array_equal(tokens[:, given.shape[1] :][:, : given.shape[1]], given)


def test_it_is_exact_in_the_latents_that_are_decoded(encoded, picture):
    latents = Pipeline(**SMALL, image=[[picture]], audio=True)("a boat").latents.video
    assert np.array_equal(patchify_video(latents[:, :, :1]), encoded(64, 128))


def test_below_strength_1_it_is_not(steps, encoded, picture):
    Pipeline(**SMALL, image=[[picture, 0, 0.8]], one_stage=True)("a boat")
    given = encoded(64, 128)
    assert not np.array_equal(steps[0][-1][:, : given.shape[1]], given)
