"""LoRA files: which modules they change and by how much, from the names in circulation.

Opening reads the header and looks once through the values; what a LoRAFile keeps is small. The
tensors are read again when they are attached or fused, so that only the model holds them.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import mlx.core as mx

from ltx_models.config import summarise
from ltx_models.lora.about import (
    SPATIAL_FACTOR,
    TEMPORAL_FACTOR,
    base_version,
    factor,
    other_generation,
    scalings,
)
from ltx_models.lora.entries import SCALAR, Entry, read_entry
from ltx_models.lora.keys import KEY_PREFIX, LoRAError, is_audio, parts_by_module
from ltx_models.lora.scrambled import scrambled
from ltx_models.lora.updates import Update, update_of
from ltx_models.weights import TensorFile

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
    base_version: str | None
    scrambled: bool = field(default=False)  # its factors are mixed up, and can be restored

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
        """The largest rank of any layer; most files have one only. 0 where nothing is factored."""
        return max(entry.rank for entry in self.entries.values())

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
        if self.scrambled:
            found.append(
                "its factors look scrambled, as some trainers on Macs wrote them: it will change "
                "clips and teach nothing; ask its maker for one that was saved anew"
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
    _check_finite(file, {parts[module]["alpha"]: alpha for module, alpha in alphas.items()})
    return LoRAFile(
        file=file,
        entries=entries,
        reference_downscale_factor=factor(file, SPATIAL_FACTOR),
        reference_temporal_scale_factor=factor(file, TEMPORAL_FACTOR),
        base_version=base_version(file),
        scrambled=_is_scrambled(file, entries),
    )


def is_distilled(path: Path) -> bool:
    """Whether a LoRA is the one that makes a dev model distilled: by its name alone.

    Its rank (384 in LTX-2 and 2.3) proves nothing, and its metadata does not tell. Smaller
    extracts of it keep the word "distilled" in their names.
    """
    return "distilled" in path.name.lower()


def _alphas(file: TensorFile, parts: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """The alpha of each module that has one; those that are no single number are left out.

    Some files have integers there, which are no weight's type.
    """
    keys = {module: keys["alpha"] for module, keys in parts.items() if "alpha" in keys}
    tensors = cast(dict[str, mx.array], mx.load(str(file.path), format="safetensors"))
    return {
        module: float(cast(float, tensors[key].item()))
        for module, key in keys.items()
        if file.infos[key].shape in SCALAR
    }


def _check_finite(file: TensorFile, alphas: Mapping[str, float]) -> None:
    """Raise LoRAError for NaN or infinity; ``alphas`` by key."""
    tensors = file.tensors("", file.infos.keys() - alphas.keys())
    wrong = [key for key, alpha in alphas.items() if not math.isfinite(alpha)]
    while tensors:  # taken out one by one, so that no more than one is in memory
        key, value = tensors.popitem()
        if not mx.isfinite(value).all().item():
            wrong.append(key)
    if wrong:
        raise LoRAError(
            f"{file.path}: NaN or infinity in {min(wrong)}, {len(wrong)} such in all.\n"
            "The file is damaged, or its training diverged: fetch it again or use an earlier step."
        )


def _is_scrambled(file: TensorFile, entries: Mapping[str, Entry]) -> bool:
    keys = [entry.keys["lora_A"] for entry in entries.values() if "lora_A" in entry.keys]
    return scrambled(list(file.tensors("", keys).values()))
