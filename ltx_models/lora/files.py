"""LoRA files: which modules they change and by how much, from the names in circulation.

Opening reads the header and looks once through the values; what a LoRAFile keeps is small. The
tensors are read again when they are attached or fused, so that only the model holds them.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from ltx_models.config import summarise
from ltx_models.lora.about import (
    AT_CLIP,
    LARGEST,
    SPATIAL_FACTOR,
    TEMPORAL_FACTOR,
    factor,
    other_generation,
    scalings,
)
from ltx_models.lora.entries import SCALAR, Entry, read_entry
from ltx_models.lora.keys import KEY_PREFIX, LoRAError, is_audio, parts_by_module
from ltx_models.lora.scrambled import scrambled
from ltx_models.lora.updates import Update, update_of
from ltx_models.weights import DTYPES, TensorFile, read_lazily

__all__ = ["KEY_PREFIX", "LoRAError", "LoRAFile", "is_audio", "is_distilled", "read_lora"]


@dataclass(frozen=True)
class LoRAFile:
    """An opened file; see ``read_lora``. ``entries`` are by the file's names for modules.

    Those are without prefixes; which layer of a model each means, ``fit.fit_loras`` finds.
    """

    file: TensorFile
    entries: Mapping[str, Entry]
    reference_downscale_factor: int
    reference_temporal_scale_factor: int
    scrambled: bool  # its factors are mixed up, and can be restored
    idle: bool  # all of its updates are zero

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """All that the file says of itself."""
        return self.file.metadata

    @property
    def merge(self) -> str | None:
        """How the weights are stored that it has learnt to be fused into; None for a plain one."""
        if self.metadata.get("quantization_aware") != "true":
            return None
        return self.metadata.get("base_quantization")

    @property
    def unmerged(self) -> str:
        """What speaks against such a file where it is not fused into just these weights."""
        return f"trained to be fused into {self.merge}; otherwise it may do less than nothing"

    @property
    def hears_beside(self) -> bool:
        """Whether it learnt from reference sounds at the clip's own times, and not before it."""
        return self.metadata.get("reference_audio_positions") == AT_CLIP

    @property
    def families(self) -> list[str]:
        """What kinds of update there are, in words: "LoRA", "DoRA", "LoHa", "LoKr", "full"."""
        return sorted(
            {
                "DoRA" if entry.family == "LoRA" and "magnitude" in entry.keys else entry.family
                for entry in self.entries.values()
            }
        )

    def updates(self, names: Collection[str] | None = None) -> dict[str, Update]:
        """The updates of some modules or all by name, lazily and read afresh on each call."""
        entries = {name: self.entries[name] for name in (self.entries if names is None else names)}
        keys = [
            key for entry in entries.values() for part, key in entry.keys.items() if part != "alpha"
        ]
        tensors = self.file.tensors("", keys)
        return {name: update_of(entry, tensors) for name, entry in entries.items()}

    def warnings(self, version: tuple[int, ...]) -> list[str]:
        """What speaks against the file on a model of this version, one line each."""
        found = [other_generation(self.metadata, version)]
        if self.idle:
            found.append("all of its updates are zero: it changes nothing")
        if self.scrambled:
            found.append(
                "its factors look scrambled, as some trainers on Macs wrote them: it will change "
                "clips and teach nothing; ltx-lora convert --repair puts them right"
            )
        return [line for line in found if line]


def read_lora(path: Path) -> LoRAFile:
    """Open a LoRA and check it (spec/lora_files.md 4).

    Which keys are read, ``keys.PARTS`` says. Raises WeightsError for a file that is not
    safetensors, and LoRAError for a key of another kind, half a family, sizes that do not multiply,
    NaN or infinity, and metadata that is no number.
    """
    file = TensorFile(path)
    parts = parts_by_module(file.infos, path=path)
    alphas = _alphas(file, parts)
    scaling = scalings(file, mlx_lm=any("lora_a" in keys for keys in parts.values()))
    shapes = {key: info.shape for key, info in file.infos.items()}
    entries, problems = {}, []
    for module, keys in parts.items():
        prefix = next(iter(keys.values())).split(".")[0]
        try:
            entries[module] = read_entry(
                module,
                keys,
                shapes,
                alpha=alphas.get(module),
                scaling=scaling.get(prefix, scaling[""]),
            )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise LoRAError(f"{path}: not a LoRA that can be read:\n{summarise(problems, shown=2)}")
    zeros = _zeros(file, {parts[module]["alpha"]: alpha for module, alpha in alphas.items()})
    return LoRAFile(
        file=file,
        entries=entries,
        reference_downscale_factor=factor(file, SPATIAL_FACTOR),
        reference_temporal_scale_factor=factor(file, TEMPORAL_FACTOR),
        scrambled=_is_scrambled(file, entries),
        idle=all(_is_idle(entry, zeros) for entry in entries.values()),
    )


def is_distilled(path: Path) -> bool:
    """Whether a LoRA is the one that makes a dev model distilled: by its name alone.

    Its rank (384 in LTX-2 and 2.3) proves nothing, and its metadata does not tell. Smaller
    extracts of it keep the word "distilled" in their names.
    """
    return "distilled" in path.name.lower()


def _alphas(file: TensorFile, parts: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """The alpha of each module that has one; those that are no single number are left out.

    Some files have integers there, which are no weight's type. Raises LoRAError for what is no
    number at all.
    """
    keys = {module: keys["alpha"] for module, keys in parts.items() if "alpha" in keys}
    keys = {module: key for module, key in keys.items() if file.infos[key].shape in SCALAR}
    for key in keys.values():
        if file.infos[key].dtype in ("BOOL", "C64"):
            raise LoRAError(f"{file.path}: {key} is {file.infos[key].dtype}, not a number")
    whole = read_lazily(file.path) if keys else {}
    floats = file.tensors("", [key for key in keys.values() if file.infos[key].dtype in DTYPES])
    tensors = whole | floats  # of which fp8 is decoded
    return {module: float(cast(float, tensors[key].item())) for module, key in keys.items()}


def _zeros(file: TensorFile, alphas: Mapping[str, float]) -> set[str]:
    """The keys of tensors that are zero everywhere; ``alphas`` by key.

    Raises LoRAError for NaN or infinity.
    """
    zeros = set()
    tensors = file.tensors("", file.infos.keys() - alphas.keys())
    wrong = [key for key, alpha in alphas.items() if not math.isfinite(alpha)]
    if large := [key for key, alpha in alphas.items() if LARGEST < abs(alpha) < math.inf]:
        raise LoRAError(f"{file.path}: {large[0]} is {alphas[large[0]]:g}, which is no alpha")
    while tensors:  # taken out one by one, so that no more than one is in memory
        key, value = tensors.popitem()
        looked_at = mx.stack([mx.isfinite(value).all(), value.any()])
        finite, any_value = cast(list[bool], looked_at.tolist())
        if not finite:
            wrong.append(key)
        elif not any_value:
            zeros.add(key)
    if wrong:
        raise LoRAError(
            f"{file.path}: NaN or infinity in {min(wrong)}, {len(wrong)} such in all.\n"
            "The file is damaged, or its training diverged: fetch it again or use an earlier step."
        )
    return zeros


def _is_idle(entry: Entry, zeros: Collection[str]) -> bool:
    """Whether an update is zero, whatever it is put on."""
    parts = {part: key for part, key in entry.keys.items() if part != "alpha"}
    added = [part for part in parts if part in ("diff", "diff_b")]
    factors = [part for part in parts if part not in added]
    if "magnitude" in parts or any(parts[part] not in zeros for part in added):
        return False
    return not factors or entry.scale == 0 or any(parts[part] in zeros for part in factors)


def _is_scrambled(file: TensorFile, entries: Mapping[str, Entry]) -> bool:
    keys = [entry.keys["lora_A"] for entry in entries.values() if "lora_A" in entry.keys]
    return scrambled(list(file.tensors("", keys).values()))
