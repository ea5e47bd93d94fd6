"""A monolithic LTX-2 checkpoint: its version, its configuration, and the tensors of each network.

Opening reads the header only. Each network's package has a ``load_*`` function that takes a
Checkpoint, builds the network from its section of the configuration and fills it.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from ltx_models.config import ConfigError, Section, summarise
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.weights import TensorFile, WeightsError, load_weights

Config = Mapping[str, Mapping[str, Any]]  # section, key
S = TypeVar("S", bound=Section)

TRANSFORMER = "model.diffusion_model."
CONNECTORS = (
    f"{TRANSFORMER}video_embeddings_connector.",
    f"{TRANSFORMER}audio_embeddings_connector.",
)
PREFIXES = (TRANSFORMER, "text_embedding_projection.", "vae.", "audio_vae.", "vocoder.")
SECTIONS = ("transformer", "vae", "audio_vae", "vocoder", "scheduler")


@dataclass(frozen=True)
class Checkpoint:
    """An opened file; see ``open_checkpoint``."""

    file: TensorFile
    version: tuple[int, ...]
    config: Config
    allow_unknown: Collection[str] = ()

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.file.path

    def section(self, name: str, cls: type[S]) -> S:
        """One section of the configuration, read strictly.

        Raises ConfigError if the section is missing, unknown in part, or not computable here.
        """
        if name not in self.config:
            raise ConfigError(f"{self.path}: its configuration has no section {name!r}")
        at = f"{self.path.name}: config.{name}"
        return cls.read(self.config[name], at=at, allow_unknown=self.allow_unknown)

    def fill(
        self,
        module: nn.Module,
        parts: Mapping[str, str],
        *,
        idle: Collection[str] = (),
        dtype: mx.Dtype | None = None,
    ) -> None:
        """Load a module whose keys lie under several prefixes of the file.

        ``parts`` maps a prefix in the module to one in the file, as ``{"": "vae.decoder."}``.
        ``idle`` names full keys, or prefixes that end in ".", that this module does not compute
        with. Every other key of the parts must find its place, and every weight its key.
        """
        keys, prefixes = set(idle), tuple(entry for entry in idle if entry.endswith("."))
        found: dict[str, mx.array] = {}
        for inside, prefix in parts.items():
            names = [
                name
                for name in self.file.keys(prefix)
                if prefix + name not in keys and not (prefix + name).startswith(prefixes)
            ]
            found |= {inside + k: v for k, v in self.file.tensors(prefix, names).items()}
        load_weights(module, found, source=str(self.path), dtype=dtype)


def open_checkpoint(path: Path, *, allow_unknown: Collection[str] = ()) -> Checkpoint:
    """Open a monolithic ``.safetensors`` of LTX-2 or LTX-2.3.

    ``allow_unknown`` names configuration keys to pass over. Raises WeightsError for a file that
    is not such a checkpoint and ConfigError for a configuration that contradicts its tensors.
    """
    file = TensorFile(path)
    strangers = [key for key in file.infos if not key.startswith(PREFIXES)]
    if not any(key.startswith(PREFIXES) for key in file.infos):
        raise WeightsError(
            f"{path}: not an LTX-2 checkpoint: no tensor is named {', '.join(PREFIXES)}..."
        )
    if strangers:
        raise WeightsError(
            f"{path}: tensors that belong to no network of LTX-2:\n{summarise(sorted(strangers))}"
        )
    config = _read_config(file)
    _check_against_tensors(file, config.get("transformer", {}))
    return Checkpoint(file, parse_version(file.metadata), config, allow_unknown)


def parse_version(metadata: Mapping[str, str]) -> tuple[int, ...]:
    """The leading integers of ``model_version``; missing or unreadable means the oldest, 2.0."""
    parts = re.match(r"\d+(\.\d+)*", metadata.get("model_version", ""))
    return tuple(int(part) for part in parts[0].split(".")) if parts else (2, 0)


def _read_config(file: TensorFile) -> Config:
    if "config" not in file.metadata:
        return _recognise(file)
    try:
        config = json.loads(file.metadata["config"])
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file.path}: its metadata's config is not JSON: {error}") from None
    if unknown := sorted(config.keys() - set(SECTIONS)):
        raise ConfigError(
            f"{file.path}: config has unknown sections {', '.join(unknown)}; "
            f"known are {', '.join(SECTIONS)}"
        )
    return config


def _recognise(file: TensorFile) -> Config:
    """The configuration of a released model, told from the keys and their shapes."""
    table = file.infos.get(f"{TRANSFORMER}transformer_blocks.0.scale_shift_table")
    if table is not None:
        by_shape: dict[tuple[int, ...], Config] = {(9, 4096): LTX_2_3, (6, 4096): LTX_2}
        released = by_shape.get(table.shape)
        if released and _num_blocks(file) == released["transformer"]["num_layers"]:
            return released
    raise ConfigError(
        f"{file.path}: its metadata has no config, and its tensors have not the sizes of a "
        "released model.\nFetch the original file, or convert it with its metadata kept."
    )


def _num_blocks(file: TensorFile) -> int:
    pattern = re.compile(re.escape(TRANSFORMER) + r"transformer_blocks\.(\d+)\.")
    return len({match[1] for key in file.infos if (match := pattern.match(key))})


def _check_against_tensors(file: TensorFile, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a transformer setting says other than the tensors do."""
    table = file.infos.get(f"{TRANSFORMER}transformer_blocks.0.scale_shift_table")
    if table is None:
        return
    attention = f"{TRANSFORMER}transformer_blocks.0.attn1."
    in_file = {
        "num_layers": _num_blocks(file),
        "cross_attention_adaln": table.shape[0] == 9,
        "apply_gated_attention": f"{attention}to_gate_logits.weight" in file.infos,
    }
    problems = [
        f"{file.path}: config.transformer.{key} is {said!r}, its tensors have {found!r}"
        for key, found in in_file.items()
        if (said := config.get(key, False)) != found
    ]
    if problems:
        raise ConfigError(summarise(problems))
