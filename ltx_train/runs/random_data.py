"""Samples of noise, for ``--debug`` where no data is given: they show that a run works at all."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import numpy as np

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint
from ltx_models.files import write_tensors
from ltx_models.transformer.config import TransformerConfig
from ltx_train.config import TrainConfig
from ltx_train.data.batches import data_folders
from ltx_train.data.dataset import CONDITIONS, version_text
from ltx_train.data.layout import (
    AUDIO_FEATURES,
    EMPTY_PROMPT,
    ENDING,
    FEATURE_MASK,
    LATENTS,
    MASK,
    VIDEO_FEATURES,
)
from ltx_train.data.samples import Role

GRID, NUM_AUDIO, NUM_TOKENS, FPS = (3, 4, 4), 17, 32, 24.0  # latents of 17 frames; of their sound


@contextmanager
def random_data(config: TrainConfig, checkpoint: Checkpoint) -> Iterator[Path]:
    """A folder of as many samples as a batch has, with all that the strategy reads.

    It is there while the block runs. The seed decides what is in it.
    """
    shapes = _shapes(checkpoint)
    rng = np.random.default_rng(config.seed)
    about = {"fps": str(FPS), "model_version": version_text(checkpoint)}
    with tempfile.TemporaryDirectory(prefix="ltx-train-") as name:
        root = Path(name)
        for number in range(config.optimization.batch_size):
            for folder, role in data_folders(config.training_strategy).items():
                key = MASK if role.endswith("mask") else LATENTS
                values = rng.random if key == MASK else rng.standard_normal
                tensor = mx.array(values(shapes[role], np.float32))
                write_tensors(root / folder / f"{number}{ENDING}", {key: tensor}, about)
            words = _features(checkpoint, rng)
            write_tensors(root / CONDITIONS / f"{number}{ENDING}", words, about)
        write_tensors(root / EMPTY_PROMPT, _features(checkpoint, rng), about)
        yield root


def _shapes(checkpoint: Checkpoint) -> Mapping[Role, tuple[int, ...]]:
    channels = checkpoint.section("transformer", TransformerConfig).in_channels
    sound = checkpoint.section("audio_vae", AudioVAEConfig)
    video = (channels, *GRID)
    audio = (sound.ddconfig.z_channels, NUM_AUDIO, sound.latent_mel_bins)
    return {
        "video": video,
        "video_reference": video,
        "video_mask": GRID,
        "audio": audio,
        "audio_reference": audio,
        "audio_mask": (NUM_AUDIO,),
    }


def _features(checkpoint: Checkpoint, rng: np.random.Generator) -> dict[str, mx.array]:
    config = checkpoint.section("transformer", TransformerConfig)
    widths = {VIDEO_FEATURES: config.connector.dim, AUDIO_FEATURES: config.audio_connector.dim}
    tensors = {
        key: mx.array(rng.standard_normal((NUM_TOKENS, width), np.float32))
        for key, width in widths.items()
    }
    return {**tensors, FEATURE_MASK: mx.ones(NUM_TOKENS, mx.bool_)}
