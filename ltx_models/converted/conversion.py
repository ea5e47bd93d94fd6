"""A conversion that has been thought through: sources opened and fitted, every file known.

Only headers have been read, so all that can be told before the first byte is told here.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ltx_models.check import check_networks
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.converted.card import folder_sizes, model_card
from ltx_models.converted.folder import TensorFolder
from ltx_models.converted.fusing import Fusing, plan_fusing
from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    LORAS,
    MODEL_TYPE,
    QUANTIZATION,
    QUANTIZATION_TWIN,
    TRANSFORMER_FOLDER,
    UPSCALERS,
)
from ltx_models.converted.plan import (
    Shards,
    index_files,
    json_text,
    peak_memory,
    plan_shards,
    size_text,
)
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.shard import is_finished
from ltx_models.errors import UserError
from ltx_models.identity import weights_hash
from ltx_models.quantize import Quantization

TOOL = "ltx-mlx"
CARD = "README.md"
LAST = f"{TRANSFORMER_FOLDER}/{CONFIG}"  # by which a folder is known to be whole
# Percent of a layer's output that is error, measured on Gaussian weights in groups of 32.
FEW_BITS, ENOUGH_BITS = {2: 36, 3: 17}, {4: 8, 6: 2}


class Conversion(NamedTuple):
    """All that will be written, by path in the folder; see ``plan_conversion``."""

    request: ConvertRequest
    checkpoint: Checkpoint
    fusing: Fusing | None
    shards: Shards
    about: Mapping[str, Any]  # the folder's config.json
    texts: Mapping[str, str]  # the others, LAST among them
    copies: Mapping[str, Path]  # whole files, and where they are now
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of all large files."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by folder."""
        return _sizes(self.shards, self.copies)

    @property
    def missing_bytes(self) -> int:
        """Of the files that are not there yet; a finished one of this request is kept."""
        folder = self.request.output
        files = [(f, shard) for f, found in self.shards.items() for shard in found]
        left = [s.num_bytes for f, s in files if not is_finished(folder / f / s.name, s)]
        copied = [path.stat().st_size for name, path in self.copies.items() if not self.has(name)]
        return sum(left) + sum(copied)

    @property
    def free_bytes(self) -> int:
        """Of the disk that the folder is on."""
        output = self.request.output.absolute()
        there = next(path for path in (output, *output.parents) if path.exists())
        return shutil.disk_usage(there).free

    def has(self, name: str) -> bool:
        """Whether a file that is copied is there already."""
        path = self.request.output / name
        return path.is_file() and path.stat().st_size == self.copies[name].stat().st_size

    @property
    def peak(self) -> int:
        """Bytes of memory for the largest tensor while it is made."""
        file = self.checkpoint.file
        keys = [] if self.fusing is None else filter(self.fusing.changes_key, file.infos)
        return peak_memory(file, self.shards, keys)

    @property
    def _calibration(self) -> str:
        if self.request.compensate is None:
            return ""
        return "; before it, a run of the float model for the adapters, block by block"

    def lines(self) -> list[str]:
        """The plan, a line for each folder and the sums."""
        found = [f"{self.request.source} to {self.request.output}"]
        for folder, size in self.sizes.items():
            count = len(self.shards.get(folder, ())) or sum(
                name.startswith(f"{folder}/") for name in self.copies
            )
            files = "1 file" if count == 1 else f"{count} files"
            found.append(f"  {folder}/: {files}, {size_text(size)}")
        return [
            *found,
            f"in all {size_text(self.num_bytes)}, {size_text(self.missing_bytes)} to be written",
            f"free there: {size_text(self.free_bytes)}",
            f"memory: {size_text(self.peak)} for the largest tensor{self._calibration}",
        ]


def plan_conversion(request: ConvertRequest) -> Conversion:
    """Open the source and its LoRAs, fit them, and list every file that will be written.

    Raises UserError for what cannot be converted: a source that is no whole checkpoint, or is
    quantised, a text encoder or a LoRA that does not fit, options that do not go together.
    """
    checkpoint = open_checkpoint(request.source, allow_unknown=request.allow_unknown)
    _check_request(request, checkpoint)
    check_networks(checkpoint, gemma=request.gemma, upscaler=None)
    fusing = None
    if request.loras:
        fusing = plan_fusing(
            checkpoint, request.loras, allow_unmatched=request.lora_allow_unmatched
        )
    shards = plan_shards(
        checkpoint.file,
        COMPONENTS,
        request.how,
        rank=request.compensate,
        largest=request.largest_file,
    )
    copies = {
        f"{folder}/{path.name}": path
        for folder, paths in ((UPSCALERS, request.upscalers), (LORAS, request.distilled_loras))
        for path in paths
    }
    about = _about(request, checkpoint)
    texts = _texts(request, checkpoint, shards, about, copies)
    digest = _digest(checkpoint, request, about, texts, shards, copies)
    notes = (*_notes(request, shards), *(fusing.notes(checkpoint) if fusing else ()))
    about = {**about, "conversion": digest}
    return Conversion(request, checkpoint, fusing, shards, about, texts, copies, notes)


def _check_request(request: ConvertRequest, checkpoint: Checkpoint) -> None:
    if checkpoint.quantization:
        raise UserError(
            f"{request.source}: is quantised already "
            f"({next(iter(checkpoint.quantization.values()))}); start from its float weights"
        )
    if request.compensate is not None:
        if request.how is None:
            raise UserError("--compensate: there is nothing to make up for without -q BITS")
        if request.compensate < 1:
            raise UserError(f"--compensate {request.compensate}: a rank from 1 up would fit")


def _about(request: ConvertRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    file = checkpoint.file
    version_text = file.metadata.get("model_version") or ".".join(map(str, checkpoint.version))
    about: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "model_version": version_text,
        "source": request.source.resolve().name,
        TOOL.replace("-", "_"): version(TOOL),
        "loras": [
            {"name": lora.path.name, "strength": strength.video, "audio_strength": strength.audio}
            for lora, strength in request.loras
        ],
        "compensation_rank": request.compensate,
    }
    if request.variant is not None:
        about["variant"] = request.variant
    if "scheduler" in checkpoint.config:
        about["scheduler"] = checkpoint.config["scheduler"]
    if isinstance(file, TensorFolder):
        about["loras"] = [*file.about.get("loras", []), *about["loras"]]
    return about


def _texts(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    shards: Shards,
    about: Mapping[str, Any],
    copies: Mapping[str, Path],
) -> dict[str, str]:
    found = index_files(shards)
    for component in COMPONENTS:
        config = dict(checkpoint.config.get(component.section or "", {}))
        if component.folder == TRANSFORMER_FOLDER and request.how is not None:
            config |= quantization_entries(request.how)
        found[f"{component.folder}/{CONFIG}"] = json_text(config)
    found[CARD] = model_card(
        about,
        version=checkpoint.version,
        sizes=_sizes(shards, copies),
        how=request.how,
        counts=layer_counts(shards),
    )
    return found


def quantization_entries(how: Quantization) -> dict[str, Any]:
    """What a config.json says of quantised layers, twice, as mlx-lm writes it."""
    said = {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}
    return {QUANTIZATION: said, QUANTIZATION_TWIN: said}


def layer_counts(shards: Shards) -> tuple[int, int]:
    """How many of the transformer's tensors are quantised, and how many are not."""
    units = [unit for shard in shards[TRANSFORMER_FOLDER] for unit in shard.units]
    quantised = sum(unit.how is not None for unit in units)
    return quantised, len(units) - quantised


def _sizes(shards: Shards, copies: Mapping[str, Path]) -> dict[str, int]:
    own = {folder: sum(shard.num_bytes for shard in found) for folder, found in shards.items()}
    return folder_sizes(own, [(name, path.stat().st_size) for name, path in copies.items()])


def _digest(
    checkpoint: Checkpoint,
    request: ConvertRequest,
    about: Mapping[str, Any],
    texts: Mapping[str, str],
    shards: Shards,
    copies: Mapping[str, Path],
) -> str:
    """Of all that decides what is written: the weights, and what is said of them."""
    adapters = [(weights_hash([file.path]), *strength) for file, strength in request.loras]
    headers = {f: [shard.header.hex() for shard in found] for f, found in shards.items()}
    companions = {name: weights_hash([path]) for name, path in copies.items()}
    decisive = [weights_hash([checkpoint.file]), adapters, about, texts, headers, companions]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _notes(request: ConvertRequest, shards: Shards) -> list[str]:
    if request.how is None:
        return []
    quantised, kept = layer_counts(shards)
    notes = [f"{request.how}: {quantised} layers quantised, {kept} tensors kept as they are"]
    if request.how.bits in FEW_BITS:
        others = ", ".join(f"{bits} bits: {error} %" for bits, error in ENOUGH_BITS.items())
        notes.append(
            f"warning: {request.how.bits} bits put an error of {FEW_BITS[request.how.bits]} % into "
            f"each layer's output ({others}); expect a worse clip"
        )
    return notes
