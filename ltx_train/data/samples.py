"""One sample: its files, opened, what their headers say, and what is in them.

Letters: C channels, F H W latent frames, rows, columns, T latent frames of the sound, M its bins,
n text tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ltx_models.errors import UserError
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.text_encoder.features import TextFeatures
from ltx_models.weights import DTYPES, TensorFile
from ltx_train.data.layout import AUDIO_FEATURES, FEATURE_MASK, LATENTS, MASK, VIDEO_FEATURES
from ltx_train.data.torch_files import PT_ENDING, TorchFile

# What a folder's files are to a run.
Role = Literal["video", "audio", "video_reference", "audio_reference", "video_mask", "audio_mask"]
AXES: Mapping[Role, int] = {
    "video": 4,
    "audio": 3,
    "video_reference": 4,
    "audio_reference": 3,
    "video_mask": 3,
    "audio_mask": 1,
}
VIDEO_SIZES = ("num_frames", "height", "width")  # in metadata, of latents (C, F, H, W)
AUDIO_SIZES = ("num_time_steps", "frequency_bins")  # of latents (C, T, M)
OLD_FEATURES, OLD_MASK = "prompt_embeds", "mask"  # the public trainer's, of before LTX-2
PUBLIC_FPS = 24.0  # the public trainer's, for a file that does not say

SampleFile = TensorFile | TorchFile


class Part(NamedTuple):
    """One file of a sample, as its header tells of it."""

    role: Role
    file: SampleFile
    shape: tuple[int, ...]  # latents (C, F, H, W) or (C, T, M); masks (F, H, W) or (T,)
    fps: float = 0.0  # of the picture's latents: frames a second, before the VAE

    @property
    def num_tokens(self) -> int:
        """Tokens of latents: F H W, or T."""
        return math.prod(self.shape[1:4]) if "video" in self.role else self.shape[1]


@dataclass(frozen=True)
class Sample:
    """One clip; ``parts`` are by the names of their folders."""

    name: str  # REL
    conditions: SampleFile
    parts: Mapping[str, Part]

    def part(self, role: Role) -> Part:
        """The part of a role. Raises KeyError where the run did not ask for one."""
        found = [part for part in self.parts.values() if part.role == role]
        if not found:
            raise KeyError(role)
        return found[0]

    @property
    def latents(self) -> SampleFile:
        """The file of the picture's latents."""
        return self.part("video").file

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, F, H, W) of the picture."""
        channels, frames, height, width = self.part("video").shape
        return channels, frames, height, width

    @property
    def fps(self) -> float:
        """Frames a second of the picture."""
        return self.part("video").fps

    @property
    def num_tokens(self) -> int:
        """Tokens of the picture."""
        return self.part("video").num_tokens

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Those of all parts; samples that have the same go into one batch."""
        return tuple(part.shape for part in self.parts.values())

    @property
    def files(self) -> tuple[SampleFile, ...]:
        """All files."""
        return (self.conditions, *(part.file for part in self.parts.values()))

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """Widths of the text features of the picture and of the sound."""
        return tuple(self.conditions.infos[key].shape[1] for key in feature_keys(self.conditions))

    @property
    def caption(self) -> str | None:
        """As it was encoded, with its trigger; None where the file does not say."""
        return self.conditions.metadata.get("caption")


def open_file(path: Path) -> SampleFile:
    """Open either form; reads what there is, not the tensors. Raises UserError."""
    return TorchFile(path) if path.suffix == PT_ENDING else TensorFile(path)


def open_part(path: Path, role: Role) -> Part:
    """Open a file of latents or of a mask. Raises UserError unless its header fits the role."""
    file = open_file(path)
    if role.endswith("mask"):
        return Part(role, file, tensor_shape(file, MASK, num_axes=AXES[role]))
    if role.startswith("audio"):
        shape = tensor_shape(file, LATENTS, num_axes=3)
        _check_sizes(file, dict(zip(AUDIO_SIZES, shape[1:], strict=True)))
        return Part(role, file, shape)
    return Part(role, file, _video_shape(file), _frame_rate(file))


def open_conditions(path: Path) -> SampleFile:
    """Open a file of text features. Raises UserError unless they and their mask fit together."""
    file = open_file(path)
    (num_tokens,) = tensor_shape(file, _mask_key(file), num_axes=1)
    for key in feature_keys(file):
        if tensor_shape(file, key, num_axes=2)[0] != num_tokens:
            raise UserError(f"{path}: {key} and {_mask_key(file)} are of different lengths")
    return file


def feature_keys(file: SampleFile) -> tuple[str, str]:
    """Of the picture and of the sound; LTX-2 has one tensor for both."""
    old = OLD_FEATURES in file.infos and VIDEO_FEATURES not in file.infos
    picture = OLD_FEATURES if old else VIDEO_FEATURES
    return picture, AUDIO_FEATURES if AUDIO_FEATURES in file.infos else picture


def _mask_key(file: SampleFile) -> str:
    old = OLD_MASK in file.infos and FEATURE_MASK not in file.infos
    return OLD_MASK if old else FEATURE_MASK


def tensor_shape(file: SampleFile, key: str, *, num_axes: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises UserError if it is not there, empty, or of other axes."""
    if key not in file.infos:
        raise UserError(f"{file.path}: no tensor {key}; it has {', '.join(sorted(file.infos))}")
    shape = file.infos[key].shape
    if len(shape) != num_axes or 0 in shape:
        raise UserError(f"{file.path}: {key} has the shape {shape}; {num_axes} axes would fit")
    return shape


def _video_shape(file: SampleFile) -> tuple[int, ...]:
    """(C, F, H, W), also of tokens (F H W, C), which the public trainer once stored."""
    if LATENTS not in file.infos or len(file.infos[LATENTS].shape) != 2:
        shape = tensor_shape(file, LATENTS, num_axes=4)
        _check_sizes(file, dict(zip(VIDEO_SIZES, shape[1:], strict=True)))
        return shape
    num_tokens, channels = tensor_shape(file, LATENTS, num_axes=2)
    said = [file.metadata.get(name, "") for name in VIDEO_SIZES]
    sizes = [int(text) if text.isdecimal() else 0 for text in said]
    if math.prod(sizes) != num_tokens:
        raise UserError(
            f"{file.path}: latents of {num_tokens} tokens; {', '.join(VIDEO_SIZES)} beside them "
            f"say {said}"
        )
    return channels, *sizes


def _check_sizes(file: SampleFile, sizes: Mapping[str, int]) -> None:
    """Raise UserError where the metadata say another size than the tensor has."""
    for name, size in sizes.items():
        if (said := file.metadata.get(name, str(size))) != str(size):
            raise UserError(f"{file.path}: its metadata say {name} {said}, its latents have {size}")


def _frame_rate(file: SampleFile) -> float:
    if isinstance(file, TorchFile) and "fps" not in file.metadata:
        return PUBLIC_FPS
    said = file.metadata.get("fps", "")
    try:
        fps = float(said)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise UserError(f"{file.path}: its metadata say fps {said!r}; frames a second are wanted")
    return fps


def read_part(part: Part) -> mx.array:
    """Latents or a mask of the part's shape, float32. Raises UserError if they are not finite."""
    key = MASK if part.role.endswith("mask") else LATENTS
    values = _read_tensor(part.file, key)
    if values.ndim != len(part.shape):  # tokens (F H W, C)
        channels, *size = part.shape
        values = mx.moveaxis(values.reshape(*size, channels), -1, 0)
    return _finite(values, part.file, key)


def read_features(file: SampleFile) -> TextFeatures:
    """The features (n, dim) of a prompt's valid tokens, for the picture and for the sound, float32.

    Padding, on either side, is left out by the mask. Raises UserError for none or too many valid
    tokens, and for values that are not finite.
    """
    valid = mx.array(np.flatnonzero(np.array(_read_tensor(file, _mask_key(file)))))
    if not 0 < valid.size <= MAX_LENGTH:
        raise UserError(f"{file.path}: {valid.size} valid tokens; 1 to {MAX_LENGTH} would fit")
    picture, sound = feature_keys(file)
    video = _finite(_read_tensor(file, picture)[valid], file, picture)
    if sound == picture:
        return TextFeatures(video, video)
    return TextFeatures(video, _finite(_read_tensor(file, sound)[valid], file, sound))


def _read_tensor(file: SampleFile, key: str) -> mx.array:
    if isinstance(file, TorchFile):
        return file.read(key)
    if file.infos[key].dtype in DTYPES:
        return file.tensors("", [key])[key]
    with safe_open(file.path, "numpy") as opened:
        return mx.array(opened.get_tensor(key))


def _finite(values: mx.array, file: SampleFile, key: str) -> mx.array:
    values = values.astype(mx.float32)
    if not mx.isfinite(values).all():
        raise UserError(f"{file.path}: its {key} are not all finite")
    return values
