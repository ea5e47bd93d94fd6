"""Low-rank adapters on a transformer: attached, changed in strength, fused, trained and saved.

Files are read by ``lora_files.read_lora``; the names of layers are those of the checkpoint.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.files import KEY_PREFIX, LoRAError, LoRAFile, is_audio
from ltx_models.lora.fit import Fit, fit_loras
from ltx_models.lora.linear import (
    Adapter,
    Linear,
    LoRALinear,
    linears,
    lora_layers,
    weight_shape,
)
from ltx_models.transformer.model import Transformer


class Strength(NamedTuple):
    """How much of an adapter is added to the picture's layers, and to the sound's."""

    video: float = 1.0
    audio: float | None = None  # None: as much as to the picture's

    def at(self, path: str) -> float:
        """The strength for a layer, by its path."""
        return self.video if self.audio is None or not is_audio(path) else self.audio


def attach(
    model: Transformer,
    loras: Sequence[tuple[LoRAFile, Strength]],
    *,
    allow_unmatched: bool = False,
) -> Fit:
    """Wrap every layer that the files change, all files at once; the weights stay as they are.

    Nothing is computed yet. The adapters take the model's type. Raises LoRAError as ``fit_loras``.
    """
    fit = fit_loras(model, [file for file, _ in loras], allow_unmatched=allow_unmatched)
    layers, dtype = linears(model), model.dtype
    wrapped = [
        (path, LoRALinear(layers[path], {n: _cast(part, dtype) for n, part in adapters.items()}))
        for path, adapters in _adapters(loras, fit.placed).items()
    ]
    model.update_modules(tree_unflatten(wrapped))
    set_strengths(model, [strength for _, strength in loras])
    return fit


def set_strengths(model: nn.Module, strengths: Sequence[Strength]) -> None:
    """Change the strengths of the attached adapters, one for each in the order of attaching.

    Touches no weight of the base. Raises ValueError unless there are as many as adapters.
    """
    layers = lora_layers(model)
    count = 1 + max((number for layer in layers.values() for number in layer.numbers), default=-1)
    if len(strengths) != count:
        raise ValueError(f"{len(strengths)} strengths for {count} attached adapters")
    for path, layer in layers.items():
        layer.set_strengths([strength.at(path) for strength in strengths])


def detach(model: nn.Module) -> None:
    """Put the base layers back, as they were before ``attach`` or ``add_trainable``."""
    bases = [(path, layer.base) for path, layer in lora_layers(model).items()]
    model.update_modules(tree_unflatten(bases))


def fuse(
    model: Transformer,
    loras: Sequence[tuple[LoRAFile, Strength]],
    *,
    allow_unmatched: bool = False,
) -> Fit:
    """Add the updates to the weights for good: W + sum of strength * scale * B A (spec 2.7).

    In float32, rounded once to W's type, and evaluated layer by layer. Raises LoRAError as
    ``fit_loras``, and if a layer is quantised; then no weight has changed.
    """
    fit = fit_loras(model, [file for file, _ in loras], allow_unmatched=allow_unmatched)
    layers = linears(model)
    quantised = [p for p in fit.placed if isinstance(layers[p], nn.QuantizedLinear)]
    if quantised:
        raise LoRAError(
            f"{quantised[0]} is quantised, {len(quantised)} such in all, and cannot take up a "
            "LoRA.\nAttach it instead (--lora-mode attach), or fuse before quantising"
        )
    adapters = _adapters(loras, fit.placed)
    for path in fit.placed:
        layer = layers[path]
        weight = layer.weight.astype(mx.float32)
        for number, part in adapters.pop(path).items():  # popped, so that it is freed when done
            A, B, scale = _cast(part, mx.float32)
            weight = weight + loras[number][1].at(path) * scale * (B @ A)
        layer.weight = weight.astype(layer.weight.dtype)
        mx.eval(layer.weight)
    return fit


def add_trainable(
    model: nn.Module, *, rank: int, alpha: float, target_modules: Iterable[str]
) -> list[str]:
    """Freeze the model, put a new float32 adapter on what the targets name, return the paths.

    A target is the end of a module path, such as "to_q" or "audio_ff.net.2". Raises UserError for
    one that names no layer: it would otherwise leave that layer untrained without a word.
    """
    layers = linears(model)
    hits = {
        target: [path for path in layers if f".{path}".endswith(f".{target}")]
        for target in target_modules
    }
    if missed := [target for target, paths in hits.items() if not paths]:
        raise UserError(
            f"lora.target_modules: no linear layer is named {', '.join(map(repr, missed))}.\n"
            f"Names in this model: {', '.join(sorted({_last_name(path) for path in layers}))}"
        )
    paths = sorted({path for found in hits.values() for path in found})
    model.freeze()
    wrapped = [(path, _trainable(layers[path], rank=rank, alpha=alpha)) for path in paths]
    model.update_modules(tree_unflatten(wrapped))
    return paths


def load_trainable(model: nn.Module, file: LoRAFile) -> None:
    """Put a file's values into the adapter that ``add_trainable`` made, to go on training it.

    Raises LoRAError unless layers, sizes and rank are exactly the adapter's.
    """
    layers = lora_layers(model)
    problems = [f"missing: {path}" for path in sorted(layers.keys() - file.entries.keys())]
    problems += [f"unknown: {path}" for path in sorted(file.entries.keys() - layers.keys())]
    for path in sorted(layers.keys() & file.entries.keys()):
        entry, layer = file.entries[path], layers[path]
        there, here = (entry.rank, *entry.shape), (len(layer.lora_A), *weight_shape(layer.base))
        if there != here:
            problems.append(f"{path}: rank, out, in are {there} in the file, {here} would fit")
    if problems:
        listed = summarise(problems, shown=2)
        raise LoRAError(f"{file.path} does not fit the adapter to be trained:\n{listed}")
    for path, adapter in file.adapters().items():
        layer = layers[path]
        A, B, scale = _cast(adapter, mx.float32)
        layer.lora_A, layer.lora_B = A, scale / layer.scales[0] * B


def save_lora(model: nn.Module, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write the trained adapter with alpha / rank multiplied into lora_B, in float32.

    The metadata also gets the rank and alpha of training. The file appears whole or not at all.
    """
    about = {"format": "pt", **metadata}
    for layer in lora_layers(model).values():
        rank, (scale,) = len(layer.lora_A), layer.scales
        about |= {"rank": str(rank), "alpha": f"{scale * rank:g}"}
    write_tensors(path, lora_tensors(model), about)


def lora_tensors(
    model: nn.Module, values: Mapping[str, mx.array] | None = None
) -> dict[str, mx.array]:
    """The trained adapter as a file has it: ComfyUI's keys, alpha / rank multiplied into lora_B.

    Readers differ on where alpha is, and some ignore it; a file whose scale is 1 means the same to
    all. ``values`` are by path in the model, as "attn1.to_q.lora_A", and stand for the model's own.
    """
    tensors = {}
    for name, layer in lora_layers(model).items():
        (scale,) = layer.scales
        own = {f"{name}.lora_A": layer.lora_A, f"{name}.lora_B": layer.lora_B}
        lora_A, lora_B = (value if values is None else values[key] for key, value in own.items())
        tensors[f"{KEY_PREFIX}{name}.lora_A.weight"] = lora_A
        tensors[f"{KEY_PREFIX}{name}.lora_B.weight"] = scale * lora_B
    return tensors


def _trainable(base: Linear, *, rank: int, alpha: float) -> LoRALinear:
    """PEFT's start: lora_A Kaiming uniform with a = sqrt(5), lora_B zero, so nothing changes."""
    out_dims, in_dims = weight_shape(base)
    bound = 1 / math.sqrt(in_dims)
    lora_A = mx.random.uniform(-bound, bound, (rank, in_dims))
    layer = LoRALinear(base, {0: Adapter(lora_A, mx.zeros((out_dims, rank)), alpha / rank)})
    layer.unfreeze(recurse=False, keys=["lora_A", "lora_B"])
    return layer


def _adapters(
    loras: Sequence[tuple[LoRAFile, Strength]], paths: Iterable[str]
) -> dict[str, dict[int, Adapter]]:
    """The adapters of each path, by the number of their file."""
    found: dict[str, dict[int, Adapter]] = {path: {} for path in paths}
    for number, (file, _) in enumerate(loras):
        for path, adapter in file.adapters().items():
            if path in found:
                found[path][number] = adapter
    return found


def _cast(adapter: Adapter, dtype: mx.Dtype) -> Adapter:
    return adapter._replace(A=adapter.A.astype(dtype), B=adapter.B.astype(dtype))


def _last_name(path: str) -> str:
    """The path without its leading modules, but with the index of a list kept: "to_out.0"."""
    *_, parent, name = ["", *path.split(".")]
    return f"{parent}.{name}" if name.isdigit() else name
