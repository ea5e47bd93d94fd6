"""What ltx-precompute wrote, as samples (spec/training.md 1.4).

``ROOT/latents/REL.safetensors`` and ``ROOT/conditions/REL.safetensors`` belong together by REL.
Opening reads headers only. Letters: C channels, F H W latent frames, rows, columns, n tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ltx_models.checkpoint import Checkpoint
from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.text_encoder.features import TextFeatures
from ltx_models.weights import TensorFile
from ltx_train.data.layout import AUDIO_FEATURES, ENDING, FEATURE_MASK, LATENTS, VIDEO_FEATURES

ORDER = 0  # which of the seed's streams of random numbers; the trainer has the next


@dataclass(frozen=True)
class Sample:
    """One clip: its files, opened, and what their headers say."""

    name: str  # REL
    latents: TensorFile
    conditions: TensorFile
    shape: tuple[int, int, int, int]  # (C, F, H, W)
    fps: float

    @property
    def num_tokens(self) -> int:
        """Tokens of the picture."""
        _, frames, height, width = self.shape
        return frames * height * width

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """Widths of the text features of the picture and of the sound."""
        return tuple(self.conditions.infos[key].shape[1] for key in _feature_keys(self.conditions))


def open_dataset(root: Path, *, latents_dir: str = LATENTS) -> list[Sample]:
    """The samples of a folder, sorted by name.

    Raises UserError for a folder without any, and for each sample that is not whole.
    """
    folder = root / latents_dir
    if not folder.is_dir():
        raise UserError(
            f"data.preprocessed_data_root {root}: it has no folder {latents_dir}.\n"
            f"ltx-precompute --input-dir CLIPS --output-dir {root} makes it"
        )
    names = [
        path.relative_to(folder)
        for path in sorted(folder.rglob(f"*{ENDING}"))
        if not path.name.startswith(".")  # unfinished
    ]
    if not names:
        raise UserError(f"{folder}: no sample ({ENDING}) in it")
    lonely = [str(name) for name in names if not (root / "conditions" / name).is_file()]
    if lonely:
        raise UserError(
            f"{root / 'conditions'}: {len(lonely)} of {len(names)} samples have no text features:\n"
            f"{summarise(lonely, shown=2)}\nRun ltx-precompute again; it makes what is missing"
        )
    return [_open_sample(root, latents_dir, name) for name in names]


def version_text(checkpoint: Checkpoint) -> str:
    """The model's version as the metadata of a sample have it: "2.3.0"."""
    return ".".join(map(str, checkpoint.version))


def _open_sample(root: Path, latents_dir: str, name: Path) -> Sample:
    latents = TensorFile(root / latents_dir / name)
    conditions = TensorFile(root / "conditions" / name)
    shape = _shape(latents, LATENTS, num_axes=4)
    (num_tokens,) = _shape(conditions, FEATURE_MASK, num_axes=1)
    for key in _feature_keys(conditions):
        if _shape(conditions, key, num_axes=2)[0] != num_tokens:
            raise UserError(f"{conditions.path}: {key} and {FEATURE_MASK} are of different lengths")
    channels, frames, height, width = shape
    return Sample(
        name=str(name.with_suffix("")),
        latents=latents,
        conditions=conditions,
        shape=(channels, frames, height, width),
        fps=_frame_rate(latents),
    )


def _feature_keys(conditions: TensorFile) -> tuple[str, str]:
    """Of the picture and of the sound; LTX-2 has one tensor for both."""
    sound = AUDIO_FEATURES if AUDIO_FEATURES in conditions.infos else VIDEO_FEATURES
    return VIDEO_FEATURES, sound


def _shape(file: TensorFile, key: str, *, num_axes: int) -> tuple[int, ...]:
    if key not in file.infos:
        raise UserError(f"{file.path}: no tensor {key}; it has {', '.join(sorted(file.infos))}")
    shape = file.infos[key].shape
    if len(shape) != num_axes or 0 in shape:
        raise UserError(f"{file.path}: {key} has the shape {shape}; {num_axes} axes would fit")
    return shape


def _frame_rate(file: TensorFile) -> float:
    said = file.metadata.get("fps", "")
    try:
        fps = float(said)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise UserError(f"{file.path}: its metadata say fps {said!r}; frames a second are wanted")
    return fps


def read_latents(sample: Sample) -> mx.array:
    """The clip's latents (C, F, H, W), float32. Raises UserError where they are not finite."""
    latents = sample.latents.tensors("", [LATENTS])[LATENTS].astype(mx.float32)
    if not mx.isfinite(latents).all():
        raise UserError(f"{sample.latents.path}: its latents are not all finite")
    return latents


def read_features(sample: Sample) -> TextFeatures:
    """The caption's features, of its valid tokens: (n, dim) for the picture and for the sound."""
    with safe_open(sample.conditions.path, "numpy") as file:
        valid = mx.array(np.flatnonzero(file.get_tensor(FEATURE_MASK)))
    if not 0 < valid.size <= MAX_LENGTH:
        raise UserError(
            f"{sample.conditions.path}: {valid.size} valid tokens; 1 to {MAX_LENGTH} would fit"
        )
    keys = _feature_keys(sample.conditions)
    tensors = sample.conditions.tensors("", keys)
    return TextFeatures(*(tensors[key][valid] for key in keys))


def check_batches(samples: Sequence[Sample], *, batch_size: int) -> None:
    """Raise UserError where samples are too few for a batch, or do not fit into one."""
    if len(samples) < batch_size:
        raise UserError(f"optimization.batch_size {batch_size}: there are {len(samples)} samples")
    shapes = {sample.shape for sample in samples}
    if batch_size > 1 and len(shapes) > 1:
        sizes = ", ".join("x".join(map(str, shape[1:])) for shape in sorted(shapes))
        raise UserError(
            f"optimization.batch_size {batch_size}: the samples are of different sizes "
            f"(latent frames x rows x columns: {sizes}); 1 would fit"
        )


def endless_batches(
    samples: Sequence[Sample], *, batch_size: int, seed: int
) -> Iterator[list[Sample]]:
    """Batches for ever, every epoch in an order of its own that the seed decides.

    What fills no batch at the end of an epoch is left out of it.
    """
    for epoch in count():
        order = np.random.default_rng([seed, ORDER, epoch]).permutation(len(samples))
        for start in range(0, len(samples) - batch_size + 1, batch_size):
            yield [samples[i] for i in order[start : start + batch_size]]
