"""LoRA files: which layers they change and by how much, from the names in circulation.

Opening reads the header and looks once through the values; what a LoRAFile keeps is small. The
tensors are read again when they are attached or fused, so that only the model holds them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import mlx.core as mx

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.lora.linear import Adapter
from ltx_models.weights import TensorFile

KEY_PREFIX = "diffusion_model."  # what we write; the others are read
PREFIXES = (KEY_PREFIX, "transformer.")
SUFFIXES = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_down.weight": "lora_A",
    ".lora_up.weight": "lora_B",
    ".alpha": "alpha",
}
# Names under which one fact stands in the metadata; trainers of kohya's family put ss_ in front.
SPATIAL_FACTOR = ("reference_downscale_factor", "reference_spatial_scale_factor")
TEMPORAL_FACTOR = ("reference_temporal_scale_factor",)
BASE_VERSION = ("model_version", "base_model_version")


class LoRAError(UserError):
    """A file that is no LoRA, or one that does not fit its model."""


class Entry(NamedTuple):
    """What a file has for one layer: the keys of its two matrices, their sizes, and alpha."""

    keys: tuple[str, str]
    rank: int
    shape: tuple[int, int]  # (out, in), that of the layer's weight
    alpha: float | None

    @property
    def scale(self) -> float:
        """What strength 1 multiplies the update with: alpha / rank, or 1 without alpha."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True)
class LoRAFile:
    """An opened file; see ``read_lora``. ``entries`` are by the transformer's module paths."""

    file: TensorFile
    entries: Mapping[str, Entry]
    reference_downscale_factor: int
    reference_temporal_scale_factor: int
    base_version: str | None

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """All that the file says of itself."""
        return self.file.metadata

    @property
    def rank(self) -> int:
        """The largest rank of any layer; most files have one only."""
        return max(entry.rank for entry in self.entries.values())

    def adapters(self) -> dict[str, Adapter]:
        """The update of every layer by module path, lazily and read afresh on each call."""
        keys = [key for entry in self.entries.values() for key in entry.keys]
        tensors = self.file.tensors("", keys)
        return {
            module: Adapter(*(tensors[key] for key in entry.keys), scale=entry.scale)
            for module, entry in self.entries.items()
        }


def read_lora(path: Path) -> LoRAFile:
    """Open a LoRA and check it (spec/lora_files.md 4).

    Keys are ``<prefix><module><suffix>`` with one of PREFIXES or none, and one of SUFFIXES. Raises
    WeightsError for a file that is not safetensors, and LoRAError for a key of another kind, half
    a pair, sizes that do not multiply, NaN or infinity, and metadata that is no number.
    """
    file = TensorFile(path)
    parts = _parts_by_module(file)
    if problems := _misfits(file, parts):
        raise LoRAError(f"{path}: not a LoRA that can be read:\n{summarise(problems, shown=2)}")
    _check_finite(file)
    alphas = file.tensors("", [keys["alpha"] for keys in parts.values() if "alpha" in keys])
    entries = {}
    for module, keys in parts.items():
        rank, in_dims = file.infos[keys["lora_A"]].shape
        entries[module] = Entry(
            keys=(keys["lora_A"], keys["lora_B"]),
            rank=rank,
            shape=(file.infos[keys["lora_B"]].shape[0], in_dims),
            alpha=cast(float, alphas[keys["alpha"]].item()) if "alpha" in keys else None,
        )
    return LoRAFile(
        file=file,
        entries=entries,
        reference_downscale_factor=_factor(file, SPATIAL_FACTOR),
        reference_temporal_scale_factor=_factor(file, TEMPORAL_FACTOR),
        base_version=next(iter(_said(file, BASE_VERSION).values()), None),
    )


def is_distilled(path: Path) -> bool:
    """Whether a LoRA is the one that makes a dev model distilled: by its name alone.

    Its rank (384 in LTX-2 and 2.3) proves nothing, and its metadata does not tell. Smaller
    extracts of it keep the word "distilled" in their names.
    """
    return "distilled" in path.name.lower()


SOUND_LAYERS = ("audio_", "video_to_audio_attn", "av_ca_audio_", "av_ca_v2a_")


def is_audio(module: str) -> bool:
    """Whether a layer belongs to the sound's stream, by its path; else it is the picture's.

    A layer between the streams belongs to the one that it writes to.
    """
    return any(
        part.startswith(SOUND_LAYERS) and part != "audio_to_video_attn"
        for part in module.split(".")
    )


def _parts_by_module(file: TensorFile) -> dict[str, dict[str, str]]:
    """Keys of the file by module and by part: lora_A, lora_B, alpha."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    strange = []
    for key in file.infos:
        suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), None)
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), "")
        if suffix is None:
            strange.append(key)
            continue
        keys = found[key.removeprefix(prefix).removesuffix(suffix)]
        if SUFFIXES[suffix] in keys:
            raise LoRAError(f"{file.path}: {keys[SUFFIXES[suffix]]} and {key} are for one layer")
        keys[SUFFIXES[suffix]] = key
    if strange:
        raise LoRAError(
            f"{file.path}: {strange[0]} is no part of a LoRA, {len(strange)} such in all; "
            f"keys end in {', '.join(SUFFIXES)}"
        )
    if not found:
        raise LoRAError(f"{file.path}: there is no tensor in it")
    return found


def _misfits(file: TensorFile, parts: Mapping[str, Mapping[str, str]]) -> list[str]:
    problems = []
    for module, keys in parts.items():
        if missing := [part for part in ("lora_A", "lora_B") if part not in keys]:
            there = ", ".join(sorted(keys.values()))
            problems.append(f"{module}: no {' and no '.join(missing)} beside {there}")
            continue
        shape_A, shape_B = (file.infos[keys[part]].shape for part in ("lora_A", "lora_B"))
        if len(shape_A) != 2 or len(shape_B) != 2 or shape_A[0] != shape_B[1] or shape_A[0] < 1:
            problems.append(
                f"{module}: lora_A {shape_A} and lora_B {shape_B}; (rank, in) and (out, rank) "
                "would fit"
            )
        if "alpha" in keys and file.infos[keys["alpha"]].shape not in ((), (1,)):
            problems.append(f"{keys['alpha']}: {file.infos[keys['alpha']].shape}, not one number")
    return problems


def _check_finite(file: TensorFile) -> None:
    tensors = file.tensors("", file.infos)
    wrong = []
    while tensors:  # taken out one by one, so that no more than one is in memory
        key, value = tensors.popitem()
        if not mx.isfinite(value).all().item():
            wrong.append(key)
    if wrong:
        raise LoRAError(
            f"{file.path}: NaN or infinity in {min(wrong)}, {len(wrong)} such in all.\n"
            "The file is damaged, or its training diverged: fetch it again or use an earlier step."
        )


def _factor(file: TensorFile, names: Iterable[str]) -> int:
    """A whole number from 1 up; 1 where nothing is said."""
    said = _said(file, names)
    if len(set(said.values())) > 1:
        values = ", ".join(f"{key} {value!r}" for key, value in said.items())
        raise LoRAError(f"{file.path}: its metadata contradicts itself: {values}")
    for key, value in said.items():
        if not re.fullmatch(r"0*[1-9]\d*(\.0*)?", value):
            raise LoRAError(f"{file.path}: {key} is {value!r}; 1, 2, 3, ... would fit")
    return int(float(next(iter(said.values()), "1")))


def _said(file: TensorFile, names: Iterable[str]) -> dict[str, str]:
    """What the metadata says under any of the names, with or without ss_."""
    keys = [key for name in names for key in (name, f"ss_{name}")]
    return {key: file.metadata[key] for key in keys if key in file.metadata}
