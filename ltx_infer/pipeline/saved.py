"""Latents on disk, written before a clip is decoded, so that decoding can begin again."""

from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.run import ClipLatents
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.weights import TensorFile, WeightsError

KIND = "ltx-mlx latents"


class Saved(NamedTuple):
    """What is needed to decode a clip."""

    latents: ClipLatents
    fps: float
    model: str  # as --model takes it
    sound: Sound | None = None  # the input's own, where that is the clip's
    comment: str | None = None  # what the clip is to say of itself
    temporal_upscaler: Path | None = None  # of twice the frames, which it is still to have


def latents_path(output: Path) -> Path:
    """Where the latents of a clip lie until it is written."""
    return output.with_name(f"{output.stem}.latents.safetensors")


def save(path: Path, saved: Saved) -> None:
    """Write latents; the file appears complete or not at all."""
    tensors = {name: value for name, value in saved.latents._asdict().items() if value is not None}
    metadata = {"kind": KIND, "fps": repr(saved.fps), "model": saved.model}
    if saved.comment is not None:
        metadata["comment"] = saved.comment
    if saved.temporal_upscaler is not None:
        metadata["temporal_upscaler"] = str(saved.temporal_upscaler)
    if saved.sound is not None:
        tensors["sound"] = mx.array(saved.sound.waveform)
        metadata["sound_rate"] = str(saved.sound.rate)
    write_tensors(path, tensors, metadata)


def load(path: Path) -> Saved:
    """Latents that ``save`` wrote. Raises UserError for another file."""
    if not path.is_file():
        raise UserError(f"--decode-only {path}: there is no such file")
    try:
        file = TensorFile(path)
    except WeightsError:
        raise _not_ours(path) from None
    if file.metadata.get("kind") != KIND or not {"fps", "model"} <= file.metadata.keys():
        raise _not_ours(path)
    tensors = file.tensors("", file.infos)
    sound = None
    if "sound" in tensors:
        sound = Sound(np.array(tensors["sound"]), int(file.metadata["sound_rate"]))
    temporal = file.metadata.get("temporal_upscaler")
    return Saved(
        ClipLatents(tensors.get("video"), tensors.get("audio")),
        float(file.metadata["fps"]),
        file.metadata["model"],
        sound,
        file.metadata.get("comment"),
        None if temporal is None else Path(temporal),
    )


def _not_ours(path: Path) -> UserError:
    return UserError(
        f"--decode-only {path}: no latents of ours, or damaged; it takes the .latents.safetensors "
        "that a run left"
    )
