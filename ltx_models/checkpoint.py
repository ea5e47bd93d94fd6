"""An LTX-2 checkpoint: its version, its configuration, and the tensors of each network.

Opening reads the header only. Each network's package has a ``load_*`` function that takes a
Checkpoint, builds the network from its section of the configuration and fills it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import mlx.core as mx
import mlx.nn as nn

from ltx_models.compensate.linear import A, stored_as
from ltx_models.config import ConfigError, Section, as_object, parse_object, summarise
from ltx_models.converted.folder import TensorFolder
from ltx_models.converted.layout import PROJECTION, STATISTICS, TRANSFORMER
from ltx_models.errors import printable
from ltx_models.quantize import Quantization
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.statistics import PerChannelStatistics
from ltx_models.weights import Parts, TensorFile, WeightsError, check_fit, load_weights

Config = Mapping[str, Mapping[str, Any]]  # section, key
M = TypeVar("M", bound=nn.Module)
S = TypeVar("S", bound=Section)

PREFIXES = (TRANSFORMER, PROJECTION, "vae.", "audio_vae.", "vocoder.")
CODERS = ("encoder.", "decoder.", STATISTICS)
NETWORKS = (
    TRANSFORMER,
    PROJECTION,
    *(f"{vae}{part}" for vae in ("vae.", "audio_vae.") for part in CODERS),
    "vocoder.",
)
SECTIONS = ("transformer", "vae", "audio_vae", "vocoder", "scheduler")
# Versions: the first of LTX-2, the one after it, and the first that is not read here.
OLDEST, SECOND, LATER = (2, 0), (2, 3, 0), (2, 4)
ABOUT = {"config", "model_version"}  # what a checkpoint says of itself
TABLE, SECOND_ROWS = f"{TRANSFORMER}transformer_blocks.0.scale_shift_table", 9  # of LTX-2.3


class SchedulerConfig(Section):
    """The section ``scheduler``, which nothing is computed from (spec/model.md 2.2)."""

    constants: ClassVar[Mapping[str, Any]] = {
        "_class_name": "RectifiedFlowScheduler",
        "num_train_timesteps": 1000,
        "shifting": None,
        "base_resolution": None,
        "sampler": "LinearQuadratic",
    }
    idle: ClassVar[Collection[str]] = ("_diffusers_version",)


@dataclass(frozen=True)
class Checkpoint:
    """An opened file; see ``open_checkpoint``.

    With ``header_only`` networks are fitted to the file and keep the weights they were made with.
    """

    file: TensorFile
    version: tuple[int, ...]
    config: Config
    allow_unknown: Collection[str] = ()
    header_only: bool = False

    @property
    def path(self) -> Path:
        """The file itself, or the converted folder."""
        return self.file.path

    @property
    def quantization(self) -> Mapping[str, Quantization]:
        """How the transformer's quantised layers are stored, by path; empty for a file."""
        return self.file.quantization if isinstance(self.file, TensorFolder) else {}

    @property
    def stored(self) -> set[str]:
        """In which ways quantised layers are stored, in words; empty where none is."""
        return {
            stored_as(how, compensated=f"{TRANSFORMER}{path}.{A}" in self.file.infos)
            for path, how in self.quantization.items()
        }

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
        module: M,
        parts: Parts,
        *,
        idle: Collection[str] = (),
        dtype: mx.Dtype | None = None,
    ) -> M:
        """Load a module whose keys lie under several prefixes of the file, and give it back.

        ``parts`` maps a prefix in the module to one in the file, as ``{"": "vae.decoder."}``.
        ``idle`` names full keys, or prefixes that end in ".", that this module does not compute
        with. Every other key of the parts must find its place, and every weight its key.
        """
        unused, prefixes = set(idle), tuple(entry for entry in idle if entry.endswith("."))
        keys = [
            prefix + name
            for prefix in parts.values()
            for name in self.file.keys(prefix)
            if prefix + name not in unused and not (prefix + name).startswith(prefixes)
        ]
        source = str(self.file.holder(min(parts.values())))
        if self.header_only:
            self.file.check_weights(keys)
            found = {key: self.file.infos[key].shape for key in keys}
            check_fit(module, found, source=source, parts=parts)
        else:
            tensors = self.file.tensors("", keys)
            load_weights(module, tensors, source=source, parts=parts, dtype=dtype)
        return module

    def fill_coder(self, module: M, prefix: str, *, dtype: mx.Dtype) -> M:
        """``fill`` for a VAE's encoder or decoder, with the statistics that lie beside it.

        ``prefix`` is as ``vae.encoder.``
        """
        beside = f"{prefix.split('.')[0]}.{STATISTICS}"
        idle = [beside + name for name in PerChannelStatistics.idle]
        return self.fill(module, {"": prefix, STATISTICS: beside}, idle=idle, dtype=dtype)


def open_checkpoint(path: Path, *, allow_unknown: Collection[str] = ()) -> Checkpoint:
    """Open a monolithic ``.safetensors`` of LTX-2 or LTX-2.3, or a converted folder.

    ``allow_unknown`` names configuration keys to pass over. Raises WeightsError for a file that
    is not such a checkpoint, and ConfigError for a configuration that contradicts its tensors or
    has none of the keys to pass over.
    """
    file = TensorFolder(path) if path.is_dir() else TensorFile(path)
    version = _version(file)
    _check_kind(file, version)
    if strangers := [key for key in file.infos if not key.startswith(NETWORKS)]:
        raise WeightsError(
            f"{path}: tensors that belong to no network of LTX-2:\n{summarise(sorted(strangers))}"
        )
    checkpoint = Checkpoint(file, version, _read_config(file), allow_unknown)
    _check_allowed(checkpoint)
    _check_against_tensors(file, checkpoint.config.get("transformer", {}))
    if "scheduler" in checkpoint.config:
        checkpoint.section("scheduler", SchedulerConfig)
    return checkpoint


def parse_version(metadata: Mapping[str, str]) -> tuple[int, ...]:
    """The leading integers of ``model_version``; missing or unreadable means the oldest, 2.0."""
    parts = re.match(r"\d{1,9}(\.\d{1,9})*", metadata.get("model_version", ""))
    return tuple(int(part) for part in parts[0].split(".")) if parts else OLDEST


def _version(file: TensorFile) -> tuple[int, ...]:
    """As the file says; of one that says nothing of itself, as its tensors tell."""
    if not ABOUT.isdisjoint(file.metadata) or (isinstance(file, TensorFolder) and file.config):
        return parse_version(file.metadata)
    table = file.infos.get(TABLE)
    return SECOND if table is not None and table.shape[:1] == (SECOND_ROWS,) else OLDEST


def _check_kind(file: TensorFile, version: tuple[int, ...]) -> None:
    """Raise WeightsError for other models, in words that say which they are."""
    said = f"(model_version {printable(file.metadata.get('model_version'), longest=60)})"
    keys = file.infos.keys()
    alone = not _has(keys, *PREFIXES)
    patchify, keyframes = f"{TRANSFORMER}patchify_proj.weight", "keyframes_abs_pos_embedding"
    kinds = {
        f"LTX-2.5 or later {said}": version >= LATER,
        "LTX-2.5 (it has a duration_head)": _has(keys, "duration_head."),
        f"LTX-2.5 (it has {keyframes})": f"{TRANSFORMER}{keyframes}" in keys or keyframes in keys,
        f"LTX-Video {said}, which has no sound": version[0] < OLDEST[0],
        "LTX-Video (no tensor of it is for sound)": patchify in keys
        and not any("audio" in key for key in keys),
        "a VAE in a file of its own, as of LTX-2.5": alone and _has(keys, *CODERS),
        "a transformer in a file of its own": alone and _has(keys, "transformer_blocks."),
    }
    if kind := next((name for name, found in kinds.items() if found), None):
        raise WeightsError(
            f"{file.path}: {kind}; only LTX-2 and LTX-2.3, whole in one file, are computed here"
        )
    if alone:
        raise WeightsError(
            f"{file.path}: not an LTX-2 checkpoint: no tensor is named {', '.join(PREFIXES)}..."
        )


def _has(keys: Collection[str], *prefixes: str) -> bool:
    return any(key.startswith(prefixes) for key in keys)


def _check_allowed(checkpoint: Checkpoint) -> None:
    """Raise ConfigError for a key to pass over that the configuration does not have."""
    there = _all_keys(checkpoint.config.values())
    for key in checkpoint.allow_unknown:
        if key not in there:
            near = get_close_matches(key, there, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"--allow-unknown-config {key}: no section of the configuration of "
                f"{checkpoint.path} has this key{hint}"
            )


def _all_keys(data: Iterable[Any]) -> set[str]:
    """The keys of some JSON objects and of all objects inside them."""
    keys: set[str] = set()
    for value in data:
        if isinstance(value, Mapping):
            keys |= value.keys() | _all_keys(value.values())
        elif isinstance(value, list):
            keys |= _all_keys(value)
    return keys


def _read_config(file: TensorFile) -> Config:
    if isinstance(file, TensorFolder) and file.config:
        return file.config
    if "config" not in file.metadata:
        return _recognise(file)
    at = f"{file.path}: its metadata's config"
    config = parse_object(file.metadata["config"], at=at)
    if unknown := sorted(config.keys() - set(SECTIONS)):
        raise ConfigError(
            f"{file.path}: config has unknown sections {printable(', '.join(unknown))}; "
            f"known are {', '.join(SECTIONS)}"
        )
    return {name: as_object(section, at=f"{at}.{name}") for name, section in config.items()}


def _recognise(file: TensorFile) -> Config:
    """The configuration of a released model, told from the keys and their shapes."""
    table = file.infos.get(TABLE)
    if table is not None:
        by_shape: dict[tuple[int, ...], Config] = {(SECOND_ROWS, 4096): LTX_2_3, (6, 4096): LTX_2}
        released = by_shape.get(table.shape)
        if released and _num_blocks(file) == released["transformer"]["num_layers"]:
            return released
    folder = isinstance(file, TensorFolder)
    said = "it has no configuration of a checkpoint" if folder else "its metadata has no config"
    raise ConfigError(
        f"{file.path}: {said}, and its tensors have not the sizes of a released model.\n"
        "Fetch the original file, or convert it with its metadata kept."
    )


def _num_blocks(file: TensorFile) -> int:
    pattern = re.compile(re.escape(TRANSFORMER) + r"transformer_blocks\.(\d+)\.")
    return len({match[1] for key in file.infos if (match := pattern.match(key))})


def _check_against_tensors(file: TensorFile, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a transformer setting says other than the tensors do."""
    table = file.infos.get(TABLE)
    if table is None:
        return
    attention = f"{TRANSFORMER}transformer_blocks.0.attn1."
    in_file = {
        "num_layers": _num_blocks(file),
        "cross_attention_adaln": table.shape[:1] == (SECOND_ROWS,),
        "apply_gated_attention": f"{attention}to_gate_logits.weight" in file.infos,
    }
    problems = [
        f"{file.path}: config.transformer.{key} is {printable(repr(said))}, "
        f"its tensors have {found!r}"
        for key, found in in_file.items()
        if (said := config.get(key, False)) != found
    ]
    if problems:
        raise ConfigError(summarise(problems))
