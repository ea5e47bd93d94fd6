"""Which layers of a converted transformer are quantised, and whether its tensors fit that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.config import ConfigError, as_object, summarise
from ltx_models.converted.layout import QUANTIZATION, TRANSFORMER
from ltx_models.errors import UserError, printable
from ltx_models.quantize import WORD, Quantization, quantization
from ltx_models.weights import TensorInfo, WeightsError

WEIGHT, SCALES = ".weight", ".scales"
PACKED = "U32"
# Of a whole entry; any other key is a layer's path.
ENTRY = ("bits", "group_size", "mode")


def quantised_layers(
    infos: Mapping[str, TensorInfo], stored: object, *, at: Path
) -> dict[str, Quantization]:
    """How each quantised layer is stored, by its path in the transformer.

    A layer is quantised whose scales are there, as mlx-lm tells it. ``stored`` is the entry of the
    configuration ``at`` which says how; in it, what a layer has of its own is under its path.
    Raises ConfigError for entries that are none, WeightsError for tensors that do not fit them.
    """
    said = as_object(stored, at=f"{at}: {QUANTIZATION}")
    keys = [key for key in infos if key.startswith(TRANSFORMER)]
    layers = [
        key.removeprefix(TRANSFORMER).removesuffix(SCALES) for key in keys if key.endswith(SCALES)
    ]
    packed = [key for key in keys if key.endswith(WEIGHT) and infos[key].dtype == PACKED]
    if bare := [key for key in packed if key.removesuffix(WEIGHT) + SCALES not in infos]:
        raise WeightsError(
            f"{at.parent}: quantised weights without their scales:\n{summarise(sorted(bare))}"
        )
    if layers and not said:
        raise ConfigError(f"{at}: has no {QUANTIZATION}, and {layers[0]} is quantised")
    own = [path for path in said if path not in ENTRY and said[path] is not False]
    if idle := sorted(set(own) - set(layers)) or (not layers and sorted(said)):
        shown = summarise([printable(each, longest=100) for each in idle])
        raise ConfigError(f"{at}: {QUANTIZATION} of what is not quantised:\n{shown}")
    found = {path: _entry(said.get(path, said), f"{at}: {path}") for path in layers}
    for path, how in found.items():
        _check(infos, path, how, at)
    return found


def packed_keys(layers: Mapping[str, Quantization]) -> set[str]:
    """The checkpoint's keys of integers: packed weights, and the scales of float modes."""
    return {f"{TRANSFORMER}{path}{WEIGHT}" for path in layers} | {
        f"{TRANSFORMER}{path}{SCALES}" for path, how in layers.items() if how.mode != "affine"
    }


def _entry(data: Any, at: str) -> Quantization:
    entry = as_object(data, at=at)
    bits, group, mode = entry.get("bits"), entry.get("group_size"), entry.get("mode", "affine")
    if not isinstance(bits, int) or not isinstance(group, int) or not isinstance(mode, str):
        shown = printable({key: entry[key] for key in ENTRY if key in entry}, longest=100)
        raise ConfigError(f"{at}: {QUANTIZATION} has bits, group_size and mode, not {shown}")
    try:
        return quantization(bits, mode=mode, group_size=group)
    except UserError as error:
        raise ConfigError(f"{at}: {error}") from None


def _check(infos: Mapping[str, TensorInfo], path: str, how: Quantization, at: Path) -> None:
    """Raise WeightsError unless a layer's weight and scales are as wide as its entry says."""
    weight = infos.get(f"{TRANSFORMER}{path}{WEIGHT}")
    if weight is None:
        raise WeightsError(f"{at.parent}: {path}{SCALES} is there, and no {path}{WEIGHT}")
    scales = infos[f"{TRANSFORMER}{path}{SCALES}"]
    dtypes = ("F32", "F16", "BF16") if how.mode == "affine" else ("U8",)
    fits = weight.dtype == PACKED and scales.dtype in dtypes
    fits = fits and len(weight.shape) == len(scales.shape) == 2
    if not fits or weight.shape[1] * WORD != scales.shape[1] * how.group_size * how.bits:
        raise WeightsError(
            f"{at.parent}: {path} is not {how}, as {at.name} has it:\n"
            f"weight {weight.dtype} {weight.shape}, scales {scales.dtype} {scales.shape}"
        )
