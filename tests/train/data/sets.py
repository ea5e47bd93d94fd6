"""Data folders of small samples, in our form and in the public trainer's."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from ltx_models.files import write_tensors
from tests.train.data.torch_writer import write_pt

LATENTS = np.arange(24, dtype=np.float32).reshape(4, 2, 1, 3) / 8
CONDITIONS = {
    "video_prompt_embeds": np.arange(12, dtype=np.float32).reshape(3, 4),
    "audio_prompt_embeds": -np.arange(6, dtype=np.float32).reshape(3, 2),
    "prompt_attention_mask": np.ones(3, bool),
}


def put(path: Path, tensors: Mapping[str, np.ndarray], **about: object) -> None:
    """A file of tensors and scalars, in the form that its ending says."""
    if path.suffix == ".pt":
        write_pt(path, {**tensors, **about})
    else:
        arrays = {key: mx.array(value) for key, value in tensors.items()}
        write_tensors(path, arrays, {key: str(value) for key, value in about.items()})


def put_sample(root: Path, name: str, *, latents=LATENTS, ending="safetensors", **about) -> None:
    """Latents at 24 frames a second unless ``about`` says other, and conditions."""
    put(root / f"latents/{name}.{ending}", {"latents": latents}, **{"fps": 24.0, **about})
    put(root / f"conditions/{name}.{ending}", CONDITIONS)
