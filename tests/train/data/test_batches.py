"""Batches of real files: what a strategy reads, and what of it each sample is given."""

import json

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.text_encoder import PromptContext
from ltx_models.transformer.patchify import (
    AudioScale,
    VideoScale,
    audio_positions,
    patchify_audio,
    patchify_video,
    video_positions,
)
from ltx_train.config import TrainConfig
from ltx_train.data.batches import Scales, data_folders, make_batches
from ltx_train.data.dataset import open_dataset
from ltx_train.data.samples import read_part
from tests.train.data.sets import put, put_sample

SCALES = Scales(VideoScale(8, 32), AudioScale(16000, 160, 4))
VIDEO, SOUND, SMALLER = (4, 2, 2, 4), (2, 5, 3), (4, 2, 1, 2)
NAMES = ("a", "b", "c")


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    for name in NAMES:
        put_sample(tmp_path, name, latents=normal(*VIDEO))
        file = f"{name}.safetensors"
        put(tmp_path / "audio_latents" / file, {"latents": normal(*SOUND)})
        put(tmp_path / "reference_latents" / file, {"latents": normal(*SMALLER)}, fps=24.0)
        put(tmp_path / "reference_audio_latents" / file, {"latents": normal(2, 3, 3)})
        put(tmp_path / "video_masks" / file, {"mask": (normal(*VIDEO[1:]) > 0).astype(np.float32)})
        put(tmp_path / "audio_masks" / file, {"mask": np.array([1, 1, 0, 0, 0], np.float32)})
    return tmp_path


def context(sample) -> PromptContext:
    """One token that says which sample it is; 0 for none."""
    value = 0 if sample is None else ord(sample.name)
    return PromptContext(mx.full((1, 1, 3), value), mx.full((1, 1, 2), -value))


def batches(root, strategy: dict, count: int = 1, *, start: int = 0, size: int = 2):
    settings = {
        "model": {"model_path": "tiny"},
        "lora": {"rank": 2, "alpha": 2},
        "training_strategy": {"name": "flexible", **strategy},
        "optimization": {"batch_size": size},
        "data": {"preprocessed_data_root": str(root)},
    }
    config = TrainConfig.model_validate_json(json.dumps(settings))
    dataset = open_dataset(root, data_folders(config.training_strategy))
    made = make_batches(dataset, context, config, scales=SCALES, start=start)
    return dataset, [next(made) for _ in range(count)]


def chosen(dataset, batch, stream: str = "video"):
    """The samples of a batch, by what it is told."""
    values = np.abs(np.array(batch[stream].context)[:, 0, 0])
    by_name = {sample.name: sample for sample in dataset.samples}
    return [by_name[chr(int(value))] for value in values]


def test_streams_belong_together_and_lie_where_latents_do(root):
    dataset, (batch,) = batches(root, {"video": {}, "audio": {}})
    assert list(batch) == ["video", "audio"]
    samples = chosen(dataset, batch)
    assert chosen(dataset, batch, "audio") == samples
    for i, sample in enumerate(samples):
        picture, sound = (read_part(sample.part(role))[None] for role in ("video", "audio"))
        assert mx.array_equal(batch["video"].x_0[i : i + 1], patchify_video(picture))
        assert mx.array_equal(batch["audio"].x_0[i : i + 1], patchify_audio(sound))
    expected = video_positions(VIDEO[1:], fps=24, scale=SCALES.video)
    assert (batch["video"].positions == expected).all()
    assert (batch["audio"].positions == audio_positions(5, scale=SCALES.audio)).all()


def test_number_alone_decides_a_batch(root):
    strategy = {"video": {"conditions": [{"type": "first_frame", "probability": 0.5}]}}
    _, whole = batches(root, strategy, 6, size=1)
    _, late = batches(root, strategy, 3, size=1, start=3)
    for one, other in zip(whole[3:], late, strict=True):
        for x, y in zip(one["video"], other["video"], strict=True):
            assert np.array_equal(np.array(x), np.array(y))
    assert not np.array_equal(np.array(whole[0]["video"].noise), np.array(whole[3]["video"].noise))


def test_a_stream_that_is_absent_is_not_read(root):
    (root / "audio_latents/a.safetensors").unlink()
    _, (batch,) = batches(root, {"video": {}})
    assert list(batch) == ["video"]
    (root / "latents/b.safetensors").unlink()
    for name in NAMES:
        put(root / f"audio_latents/{name}.safetensors", {"latents": np.ones(SOUND, np.float32)})
    _, (batch,) = batches(root, {"audio": {}})
    assert list(batch) == ["audio"]


def test_masks_are_each_samples_own(root):
    strategy = {
        "video": {"conditions": [{"type": "mask", "mask_dir": "video_masks"}]},
        "audio": {"conditions": [{"type": "mask", "mask_dir": "audio_masks"}]},
    }
    dataset, (batch,) = batches(root, strategy)
    for i, sample in enumerate(chosen(dataset, batch)):
        mask = np.array(read_part(sample.part("video_mask"))).reshape(-1)
        assert (batch["video"].denoise_mask[i] == 1 - mask).all()
        assert batch["audio"].denoise_mask[i].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("condition", "given"),
    [
        ({"type": "first_frame"}, range(8)),
        ({"type": "prefix", "temporal_boundary": 1}, range(8)),
        ({"type": "suffix", "temporal_boundary": 1}, range(8, 16)),
        ({"type": "spatial_crop", "spatial_region": [0, 32, 32, 64]}, [1, 9]),
    ],
)
def test_each_condition_of_the_picture(root, condition, given):
    _, (batch,) = batches(root, {"video": {"conditions": [condition]}})
    assert np.flatnonzero(batch["video"].denoise_mask[0] == 0).tolist() == list(given)


def test_references_of_both_streams(root):
    strategy = {
        "video": {"conditions": [{"type": "reference", "latents_dir": "reference_latents"}]},
        "audio": {"conditions": [{"type": "reference", "latents_dir": "reference_audio_latents"}]},
    }
    dataset, (batch,) = batches(root, strategy)
    assert batch["video"].x_0.shape == (2, 4 + 16, 4)
    assert batch["audio"].x_0.shape == (2, 3 + 5, 6)
    for i, sample in enumerate(chosen(dataset, batch)):
        shown = patchify_video(read_part(sample.part("video_reference"))[None])
        assert mx.array_equal(batch["video"].x_0[i : i + 1, :4], shown)
    at = batch["video"].positions
    assert at[0, 1:, :4].max() == at[0, 1:, 4:].max() == 128  # half the size, the same place
    assert (batch["audio"].positions[:, :, :3] == batch["audio"].positions[:, :, 3:6]).all()
    assert batch["video"].denoise_mask.sum(axis=1).tolist() == [16, 16]


def test_a_given_stream_its_weight_and_shared_levels(root):
    _, (batch,) = batches(root, {"video": {"is_generated": False}, "audio": {"loss_weight": 0.5}})
    assert batch["video"].noise is None
    assert (batch["video"].denoise_mask == 0).all()
    assert batch["audio"].loss_weight == 0.5
    _, (batch,) = batches(root, {"video": {}, "audio": {}, "shared_sigma": True})
    assert (batch["video"].sigma == batch["audio"].sigma).all()


def test_captions_are_left_out_for_both_streams_at_once(root):
    strategy = {"video": {}, "audio": {}, "caption_dropout": 0.4}
    _, made = batches(root, strategy, 60)
    video, audio = (
        np.concatenate([np.array(batch[name].context)[:, 0, 0] for batch in made])
        for name in ("video", "audio")
    )
    assert (video == -audio).all()
    assert 0.3 < (video == 0).mean() < 0.5
