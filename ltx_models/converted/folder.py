"""A converted folder, read under the names that its tensors have in a checkpoint."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ltx_models.config import ConfigError, as_object, read_object
from ltx_models.converted.foreign import foreign_axes, foreign_key, is_foreign, missing_folders
from ltx_models.converted.index import check_index, shards
from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    DIFFUSERS,
    MODEL_TYPE,
    QUANTIZATION,
    QUANTIZATION_TWIN,
    TRANSFORMER_FOLDER,
    Component,
    checkpoint_key,
    places,
)
from ltx_models.converted.quantised import packed_keys, quantised_layers
from ltx_models.errors import printable
from ltx_models.weights import TensorFile, TensorInfo, WeightsError, read_lazily

VARIANTS = (None, "dev", "distilled")


class TensorFolder(TensorFile):
    """A converted folder as if it were one file: the headers at once, tensors when asked for.

    ``config`` has the sections of a checkpoint's configuration, and none where the layout is
    mlx-video's, which has not all of it; ``quantization`` says how each quantised layer of the
    transformer is stored, by its path. Raises WeightsError for a missing or damaged file, for
    tensors that have no place or two different ones, and ConfigError for a config.json that cannot
    be read or contradicts the tensors. ``components`` are the networks that it has to have.
    """

    def __init__(self, path: Path, components: Sequence[Component] = COMPONENTS):
        self.path = path
        self.infos: dict[str, TensorInfo] = {}
        self._places: dict[str, tuple[Path, str]] = {}  # by a checkpoint's key: file, name in it
        self._axes: dict[str, Sequence[int]] = {}  # how a stored tensor is to be transposed
        self.about: Mapping[str, Any] = {}  # the folder's own configuration
        self.config: dict[str, Mapping[str, Any]] = {}
        self.metadata: dict[str, str] = {}
        stored: Mapping[str, Any] = {}
        self._foreign = not (path / CONFIG).is_file() and _is_foreign(path)
        if self._foreign:
            stored = read_object(path / TRANSFORMER_FOLDER / CONFIG).get(QUANTIZATION, {})
        else:
            stored = self._read_configs(components)
        for component in components:
            self._add_tensors(component)
        at = path / TRANSFORMER_FOLDER / CONFIG
        self.quantization = quantised_layers(self.infos, stored, at=at)
        self.packed = packed_keys(self.quantization)

    def _read_configs(self, components: Sequence[Component]) -> Mapping[str, Any]:
        """Of the folder and of every network; the entry that says what is quantised, and how."""
        at = self.path / CONFIG
        about = read_object(at)
        if about.get("model_type") != MODEL_TYPE:
            raise ConfigError(
                f"{at}: its model_type is {printable(repr(about.get('model_type')), longest=60)}; "
                f"ltx-convert writes {MODEL_TYPE!r}"
            )
        if about.get("variant") not in VARIANTS:
            raise ConfigError(
                f"{at}: its variant is {printable(repr(about['variant']), longest=60)}; "
                "dev and distilled would fit"
            )
        self.about = about
        version = about.get("model_version")
        self.metadata = {} if version is None else {"model_version": str(version)}
        if "scheduler" in about:
            self.config["scheduler"] = as_object(about["scheduler"], at=f"{at}: scheduler")
        stored: Mapping[str, Any] = {}
        for component in components:
            at = self.path / component.folder / CONFIG
            config = read_object(at)
            config.pop(QUANTIZATION_TWIN, None)
            said = as_object(config.pop(QUANTIZATION, {}), at=f"{at}: {QUANTIZATION}")
            if component.folder == TRANSFORMER_FOLDER:
                stored = said
            elif said:
                raise ConfigError(f"{at}: {QUANTIZATION}: only the transformer is quantised here")
            if component.section is not None:
                self._add_section(component.section, config, at)
        return stored

    def _add_section(self, name: str, config: Mapping[str, Any], at: Path) -> None:
        if self.config.setdefault(name, config) != config:
            raise ConfigError(f"{at}: differs from the configuration of the other part of {name}")

    def _add_tensors(self, component: Component) -> None:
        folder = self.path / component.folder
        names: dict[str, str] = {}  # by a file's name: of what is in it
        for path in shards(folder):
            file = TensorFile(path)
            for name, info in file.infos.items():
                if name in names:
                    raise WeightsError(f"{path}: {name} is in {names[name]}, too")
                names[name] = path.name
                self._add(component, path, name, info)
        check_index(folder, names)

    def _add(self, component: Component, path: Path, name: str, info: TensorInfo) -> None:
        key = (foreign_key if self._foreign else checkpoint_key)(component, name)
        if key is None:
            raise WeightsError(f"{path}: {name} belongs to no network of LTX-2")
        axes = foreign_axes(component, name, len(info.shape)) if self._foreign else None
        if axes is not None:
            info = TensorInfo(info.dtype, tuple(info.shape[axis] for axis in axes))
        if key not in self.infos:
            self.infos[key], self._places[key] = info, (path, name)
            if axes is not None:
                self._axes[key] = axes
        elif not _same(self._places[key], (path, name)):
            there, other = self._places[key]
            raise WeightsError(f"{path}: {name} is not what {there} has as {other}")

    def files(self) -> list[Path]:
        """The files with tensors, each once."""
        return sorted({path for path, _ in self._places.values()})

    def place(self, key: str) -> tuple[Path, str]:
        """The file that has a checkpoint's key, and its name there."""
        return self._places[key]

    def holder(self, prefix: str) -> Path:
        """The folder of the network whose keys begin so in a checkpoint."""
        found = places(prefix)
        return self.path / found[0][0].folder if found else self.path

    def _read_lazily(self, keys: Iterable[str]) -> dict[str, mx.array]:
        wanted: dict[Path, dict[str, str]] = defaultdict(dict)
        for key in keys:
            for each in (key, f"{key}_scale"):
                if each in self._places:
                    path, name = self._places[each]
                    wanted[path][each] = name
        found = {}
        for path, names in wanted.items():
            arrays = read_lazily(path)
            found |= {key: arrays[name] for key, name in names.items()}
        return found | {
            key: found[key].transpose(axes) for key, axes in self._axes.items() if key in found
        }


def _is_foreign(folder: Path) -> bool:
    """Whether it is a folder of mlx-video; raises UserError for one of neither kind."""
    if (folder / DIFFUSERS).is_file():
        raise ConfigError(
            f"{folder}: the layout of diffusers, which is not read here.\n"
            "Name the .safetensors of the whole model, as Lightricks publishes it"
        )
    if not is_foreign(read_object(folder / TRANSFORMER_FOLDER / CONFIG)):
        raise ConfigError(f"{folder / CONFIG}: no such file; ltx-convert writes it")
    if missing := missing_folders(folder):
        raise WeightsError(
            f"{folder}: made by mlx-video, and without {', '.join(missing)}.\n"
            "Convert the original file anew, with ltx-convert"
        )
    return True


def _same(one: tuple[Path, str], other: tuple[Path, str]) -> bool:
    """Whether two small tensors, as the statistics that both parts of a VAE have, are equal."""
    a, b = (read_lazily(path)[name].astype(mx.float32) for path, name in (one, other))
    return bool(mx.array_equal(a, b).item())
