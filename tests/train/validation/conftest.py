"""Files that samples name, and a configuration of a run on the stand-in."""

import json
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer.hub import find_model
from ltx_infer.media.write import write_clip, write_wav
from ltx_infer.pipeline.models import Models
from ltx_models.checkpoint import open_checkpoint
from ltx_train.config import TrainConfig
from tests.infer.media.odd_media import tone
from tests.train.media import moving

SIZE = [64, 64, 9]


def config(*, model=None, strategy=None, data="data", more=None, **validation) -> TrainConfig:
    """A run on both streams, with small samples in two steps, and some values put over it."""
    given = {
        "model": {"model_path": "tiny", **(model or {})},
        "lora": {"rank": 2, "alpha": 2, "dropout": 0.2},
        "training_strategy": strategy or {"name": "flexible", "video": {}, "audio": {}},
        "data": {"preprocessed_data_root": str(data)},
        "validation": {"video_dims": SIZE, "inference_steps": 2, **validation},
        **(more or {}),
    }
    return TrainConfig.model_validate_json(json.dumps(given))


def sample(*conditions: dict, **more) -> list[dict]:
    return [{"prompt": "waves", "conditions": conditions, **more}]


def quiet(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="session")
def files(tiny):
    return find_model("tiny", variant="dev")


@pytest.fixture(scope="session")
def checkpoint(files):
    return open_checkpoint(files.checkpoint)


@pytest.fixture(scope="session")
def models(files, checkpoint) -> Models:
    return Models(checkpoint, files.text_encoder(), upscaler=None, dtype=mx.float32)


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """clip.mp4 of 17 frames, short.mp4, still.png, mask.png, sound.wav, mask.wav and short.wav."""
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", [moving(1, frames=17, height=64, width=64)], fps=24)
    write_clip(folder / "short.mp4", [moving(2, frames=5, height=64, width=64)], fps=24)
    Image.fromarray(moving(3, frames=1, height=64, width=64)[0]).save(folder / "still.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    sound = np.tile(tone(1.0), (2, 1)).astype(np.float32)
    write_wav(folder / "sound.wav", sound, rate=48000)
    write_wav(folder / "short.wav", sound[:, :4800], rate=48000)
    loud = np.zeros((2, 48000), np.float32)
    loud[:, 4800:9600] = 1  # from 0.1 to 0.2 s
    write_wav(folder / "mask.wav", loud, rate=48000)
    return folder


@pytest.fixture
def in_media(media):
    """Run where the files are, as samples name them by relative paths."""
    before = Path.cwd()
    os.chdir(media)
    yield media
    os.chdir(before)
