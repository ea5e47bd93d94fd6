"""Safetensors into modules: every weight of the module, or an error that lists the misfits."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from safetensors import SafetensorError, safe_open

from ltx_models.config import summarise
from ltx_models.errors import UserError, printable, reason

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DTYPES = {"F32", "F16", "BF16", "F8_E4M3"}  # of weights
# One tensor of another type, and mx.load refuses the whole file.
LOADABLE = DTYPES | {"BOOL", "C64"} | {f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)}
SHOWN = 3  # misfits in a message; looking for near names takes long in a large network
FP8_SCALES = ("weight_scale", "input_scale")
# Beyond what any file has; MLX takes a side modulo 2^32, and messages have names and sides in them.
LARGEST_SIDE, MOST_SIDES, LONGEST_NAME, MOST_TENSORS = 2**31 - 1, 8, 300, 50_000

Shape = tuple[int, ...]
Parts = Mapping[str, str]  # a prefix in a module, and the prefix that its keys have in the file
WHOLE: Parts = {"": ""}


class WeightsError(UserError):
    """A file that cannot be read, or tensors that do not fit their module."""


class TensorInfo(NamedTuple):
    """What the file's header says of one tensor."""

    dtype: str
    shape: Shape


class TensorFile:
    """A safetensors file: its header at once, its tensors when they are asked for.

    Opening reads the header only. Tensors are lazy ``mx.array``s in the file's (PyTorch) layout.
    Raises WeightsError if the file cannot be opened, is truncated or not safetensors.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb"):  # safe_open says "no such file" whatever the reason is
                pass
            with safe_open(path, "numpy") as file:
                self.metadata: dict[str, str] = file.metadata() or {}
                names = file.keys()
                _check_names(path, names)
                slices = {key: file.get_slice(key) for key in names}
                self.infos = {
                    key: TensorInfo(part.get_dtype(), tuple(part.get_shape()))
                    for key, part in slices.items()
                }
        except OSError as error:
            raise WeightsError(f"{path}: {reason(error)}") from None
        except SafetensorError as error:
            size = path.stat().st_size
            raise WeightsError(
                f"{path}: not a complete safetensors file ({size} bytes): {printable(error)}\n"
                "Fetch it again, or name another file."
            ) from None
        self.packed: Collection[str] = ()  # keys of integers that stand for quantised weights
        if strange := [key for key, i in self.infos.items() if i.dtype not in LOADABLE]:
            raise self._unreadable(strange)
        for key, (_, shape) in self.infos.items():
            if len(shape) > MOST_SIDES or max(shape, default=0) > LARGEST_SIDE:
                raise WeightsError(f"{path}: {key} has the shape {printable(shape, longest=80)}")

    def keys(self, prefix: str) -> list[str]:
        """Names under a prefix, with the prefix taken off once.

        Scales beside an fp8 weight are part of that weight and have no name of their own.
        """
        return [
            key.removeprefix(prefix)
            for key in self.infos
            if key.startswith(prefix) and not self._is_scale(key)
        ]

    def tensors(self, prefix: str, names: Iterable[str]) -> dict[str, mx.array]:
        """The named tensors under a prefix, lazily; fp8 weights are multiplied by their scales.

        The product is float32, a weight without a scale bfloat16. The scales themselves are left
        out. Raises WeightsError as ``check_weights``.
        """
        keys = {name: prefix + name for name in names if not self._is_scale(prefix + name)}
        self.check_weights(keys.values())
        arrays = self._read_lazily(keys.values())
        return {
            name: self._from_fp8(key, arrays) if self._is_fp8(key) else arrays[key]
            for name, key in keys.items()
        }

    def check_weights(self, keys: Iterable[str]) -> None:
        """Raise WeightsError for a type that is no weight's and for a scale that does not fit."""
        for key in keys:
            dtype, shape = self.infos[key]
            if dtype not in DTYPES and key not in self.packed:
                raise self._unreadable([key])
            scale = self.infos.get(f"{key}_scale")
            if dtype == "F8_E4M3" and scale and prod(scale.shape) not in (1, *shape[:1]):
                raise WeightsError(
                    f"{self.path}: {key}_scale has shape {scale.shape}; "
                    f"one scale, or one per row of {shape}, would fit"
                )

    def place(self, key: str) -> tuple[Path, str]:
        """The file that has a key, and the name of the tensor there."""
        return self.path, key

    def holder(self, _prefix: str) -> Path:
        """What to name in a message on keys that begin so."""
        return self.path

    def _unreadable(self, keys: Sequence[str]) -> WeightsError:
        return WeightsError(
            f"{self.path}: {keys[0]} is {self.infos[keys[0]].dtype}, {len(keys)} such in all; "
            f"readable are {', '.join(sorted(DTYPES))}"
        )

    def _read_lazily(self, _keys: Iterable[str]) -> dict[str, mx.array]:
        """At least the arrays of some keys and of the scales beside them."""
        # Not cached: an array kept here would stay in memory for good once a module has read it.
        return read_lazily(self.path)

    def _is_fp8(self, key: str) -> bool:
        return key in self.infos and self.infos[key].dtype == "F8_E4M3"

    def _is_scale(self, key: str) -> bool:
        stem, _, last = key.rpartition(".")
        return last in FP8_SCALES and self._is_fp8(f"{stem}.weight")

    def _from_fp8(self, key: str, arrays: Mapping[str, mx.array]) -> mx.array:
        values = mx.from_fp8(arrays[key], mx.bfloat16)  # which holds every e4m3 code exactly
        scale_key = f"{key}_scale"
        if scale_key not in self.infos:
            return values
        scale = arrays[scale_key].astype(mx.float32).reshape(-1, *[1] * (values.ndim - 1))
        return values.astype(mx.float32) * scale


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raise WeightsError for names that no message could show, and for too many of them."""
    if len(names) > MOST_TENSORS:
        raise WeightsError(f"{path}: {len(names)} tensors; {MOST_TENSORS} at most are read")
    for name in names:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            shown = printable(name, longest=60)
            raise WeightsError(f"{path}: a tensor's name is no name of a layer: {shown}")


def read_lazily(path: Path) -> dict[str, mx.array]:
    """All arrays of a safetensors file whose header was looked at by ``TensorFile``; lazy.

    Raises WeightsError for a header that MLX reads in another way.
    """
    try:
        arrays = mx.load(str(path), format="safetensors")
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: not a safetensors file that can be read: {printable(error)}"
        ) from None
    assert isinstance(arrays, dict)  # mx.load also reads formats that hold a single array
    return arrays


def load_weights(
    module: nn.Module,
    tensors: Mapping[str, mx.array],
    *,
    source: str,
    parts: Parts = WHOLE,
    dtype: mx.Dtype | None = None,
) -> None:
    """Put a file's tensors, by their keys there, into a module, as ``dtype`` if given.

    ``parts`` says where the module's keys lie in the file; ``source`` is for messages. Raises
    WeightsError unless names and shapes are exactly those of the module.

    nn.Module.load_weights(strict=False) is no way to be lenient: it skips unknown keys and takes
    wrong shapes without a word, and the module goes on with random values.
    """
    check_fit(module, {k: v.shape for k, v in tensors.items()}, source=source, parts=parts)
    axes = _axes(module)
    found = {key: tensors[_file_key(key, parts)] for key in shapes(module)}
    # Contiguous, or each call of the layer would copy its weight.
    found |= {key: mx.contiguous(found[key].transpose(order)) for key, order in axes.items()}
    if dtype is not None:
        found = {
            key: tensor if mx.issubdtype(tensor.dtype, mx.integer) else tensor.astype(dtype)
            for key, tensor in found.items()  # integers are weights that are quantised
        }
    module.load_weights(list(found.items()), strict=True)
    module.eval()


def shapes(module: nn.Module) -> dict[str, Shape]:
    """The shape of each of a module's weights, in MLX's layout; computes nothing."""
    return {key: value.shape for key, value in _parameters(module)}


def torch_shapes(module: nn.Module) -> dict[str, Shape]:
    """The shape of each of a module's weights as a file has it; computes nothing."""
    found, orders = shapes(module), _axes(module)
    for key, order in orders.items():
        found[key] = tuple(found[key][order.index(axis)] for axis in range(len(order)))
    return found


def _parameters(module: nn.Module) -> list[tuple[str, mx.array]]:
    return cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))


def torch_layout(module: nn.Module) -> dict[str, mx.array]:
    """A module's weights by key, as a file holds them: the inverse of ``load_weights``."""
    weights = dict(_parameters(module))
    for key, order in _axes(module).items():
        weights[key] = weights[key].transpose(np.argsort(order).tolist())
    return {key: mx.contiguous(value) for key, value in weights.items()}


def save_tensors(
    path: Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; raises WeightsError if it cannot be written whole."""
    mx.eval(list(tensors.values()))  # so that what fails below is the writing
    try:
        with path.open("wb") as file:  # by its name alone, MLX would add an ending
            mx.save_safetensors(file, dict(tensors), dict(metadata or {}))
    except (RuntimeError, OSError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from None


def _axes(module: nn.Module) -> dict[str, list[int]]:
    """For each weight that MLX lays out in its own way: which of PyTorch's axes come in turn."""
    orders: dict[str, list[int]] = {}
    for name, layer in module.named_modules():
        key = f"{name}.weight" if name else "weight"
        if isinstance(layer, CONVOLUTIONS):  # (out, in, ...) in the file
            orders[key] = [0, *range(2, layer.weight.ndim), 1]
        elif isinstance(layer, nn.ConvTranspose1d):  # (in, out, k) in the file
            orders[key] = [1, 2, 0]
    return orders


def _file_key(key: str, parts: Parts) -> str:
    """Where a module's key lies in the file: under the part with the longest prefix of it."""
    inside = max((prefix for prefix in parts if key.startswith(prefix)), key=len)
    return parts[inside] + key.removeprefix(inside)


def check_fit(
    module: nn.Module, found: Mapping[str, Shape], *, source: str, parts: Parts = WHOLE
) -> None:
    """Raise WeightsError unless these keys and shapes of a file are exactly the module's.

    Both are as in the file: full keys, PyTorch's layout. ``parts`` is as in ``load_weights``.
    """
    wanted = {_file_key(key, parts): shape for key, shape in torch_shapes(module).items()}
    missing, spare = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    problems = [
        f"{key}: {found[key]} in the file, {wanted[key]} would fit"
        for key in sorted(wanted.keys() & found.keys())
        if found[key] != wanted[key]
    ]
    problems += [f"missing: {key}{_nearest(key, spare, 'the file has')}" for key in missing[:SHOWN]]
    problems += [f"unknown: {key}{_nearest(key, wanted, 'nearest:')}" for key in spare[:SHOWN]]
    unnamed = max(len(missing) - SHOWN, 0) + max(len(spare) - SHOWN, 0)
    if problems:
        listed = summarise(problems, shown=SHOWN, unnamed=unnamed)
        raise WeightsError(f"{source} does not fit {type(module).__name__}:\n{listed}")


def _nearest(key: str, others: Iterable[str], words: str) -> str:
    near = get_close_matches(key, others, n=1)
    return f" ({words} {near[0]})" if near else ""
