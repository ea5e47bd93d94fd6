"""Low-rank adapters on a model: attached, changed in strength, fused, trained and saved.

Files are read by ``files.read_lora``; the names of layers are those of the checkpoint. A model is
the transformer, or modules of the text path.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_models.lora.aware import AwareLoRALinear
from ltx_models.lora.files import KEY_PREFIX, LoRAError, LoRAFile, is_audio
from ltx_models.lora.fit import Fit, fit_loras, fit_text_path, text_path
from ltx_models.lora.linear import (
    Adapter,
    Linear,
    LoRALinear,
    linears,
    lora_layers,
    weight_shape,
)
from ltx_models.lora.names import list_names
from ltx_models.lora.put import Shifts, changes, fused, put_shifts, shifts_of, wrapped
from ltx_models.lora.retained import Retained, check_retained, retained
from ltx_models.lora.updates import Update
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer


class Strength(NamedTuple):
    """How much of an adapter is added to the picture's layers, and to the sound's."""

    video: float = 1.0
    audio: float | None = None  # None: as much as to the picture's

    def at(self, path: str) -> float:
        """The strength for a layer, by its path."""
        return self.video if self.audio is None or not is_audio(path) else self.audio


Loras = Sequence[tuple[LoRAFile, Strength]]


class Attached(NamedTuple):
    """What a model has besides its layers while adapters are attached to it."""

    num_files: int
    shifts: Shifts  # of norms and tables, which have no layer to wrap


def attach(model: Transformer, loras: Loras, *, allow_unmatched: bool = False) -> Fit:
    """Wrap every layer that the files change, all files at once; the weights stay as they are.

    The adapters take the model's type. Nothing is computed yet but DoRA's norms, layer by layer;
    norms and tables, which are small, are changed in place. Raises LoRAError as ``fit_loras``.
    """
    fit = fit_loras(model, [file for file, _ in loras], allow_unmatched=allow_unmatched)
    _attach(model, loras, fit, model.dtype, forget=model.forget)
    return fit


def attach_text_path(
    modules: Mapping[str, nn.Module], loras: Loras, config: TransformerConfig
) -> None:
    """``attach`` for some of connectors and text projection, by their names in a checkpoint.

    What the files have for others is passed by. Raises LoRAError as ``fit_text_path``.
    """
    model = text_path(modules)
    fit = fit_text_path(model, [file for file, _ in loras], config)
    layers = linears(model)
    dtypes = {layer.weight.dtype for layer in layers.values()}
    assert len(dtypes) == 1  # float, and loaded with one type
    _attach(model, loras, fit, dtypes.pop(), forget=None)


def _attach(
    model: nn.Module,
    loras: Loras,
    fit: Fit,
    dtype: mx.Dtype,
    *,
    forget: Callable[[str], None] | None,
) -> None:
    layers = linears(model)
    updates = _updates(loras, fit)
    shifts = shifts_of(model, {p: u for p, u in updates.items() if p not in layers})
    new = []
    for path, own in updates.items():
        if path in layers:
            new.append((path, wrapped(layers[path], own, dtype)))
            if forget is not None:  # what DoRA's norms were computed from
                forget(path)
    model.update_modules(tree_unflatten(new))
    model["_attached"] = Attached(len(loras), shifts)
    set_strengths(model, [strength for _, strength in loras])


def set_strengths(model: nn.Module, strengths: Sequence[Strength]) -> None:
    """Change the strengths of the attached adapters, one for each in the order of attaching.

    Touches no linear layer of the base. Raises ValueError unless there are as many as adapters.
    """
    num_files, shifts = _attached(model)
    if len(strengths) != num_files:
        raise ValueError(f"{len(strengths)} strengths for {num_files} attached adapters")
    for path, layer in lora_layers(model).items():
        layer.set_strengths([strength.at(path) for strength in strengths])
    put_shifts(model, shifts, strengths)


def detach(model: nn.Module) -> None:
    """Put the base layers back, as they were before ``attach`` or ``add_trainable``."""
    bases = [(path, layer.base) for path, layer in lora_layers(model).items()]
    model.update_modules(tree_unflatten(bases))
    put_shifts(model, _attached(model).shifts, [])
    model.pop("_attached", None)


def _attached(model: nn.Module) -> Attached:
    return model.get("_attached", Attached(0, {}))


class Fused(NamedTuple):
    """What became of the layers that files name, and of their updates in quantised ones."""

    fit: Fit
    retained: Mapping[str, Retained]  # by path


def fuse(
    model: Transformer, loras: Loras, *, allow_unmatched: bool = False, anyway: bool = False
) -> Fused:
    """Add the updates to the weights for good: W + sum of strength * scale * B A (spec 2.7).

    In float32, rounded once to what W is stored as, and evaluated layer by layer; DoRA's norms are
    those of W with one file's update. Raises LoRAError as ``fit_loras``, and unless ``anyway``
    where quantised layers keep too little (``retained``); then no weight has changed.
    """
    fit = fit_loras(model, [file for file, _ in loras], allow_unmatched=allow_unmatched)
    layers, found = linears(model), measure(model, loras, fit)
    if not anyway:
        check_retained(found)
    updates = _updates(loras, fit)
    shifts = shifts_of(model, {p: u for p, u in updates.items() if p not in layers})
    put_shifts(model, shifts, [strength for _, strength in loras])
    for path in fit.placed:
        if path in layers:
            weight, bias = _changes(path, layers[path], loras, updates)
            if isinstance(layers[path], nn.QuantizedLinear) and path not in found:
                weight = None  # none is wanted, and to store the weight anew could change it
            fused(layers[path], weight, bias, dtype=model.dtype)
    return Fused(fit, found)


def measure(model: Transformer, loras: Loras, fit: Fit) -> dict[str, Retained]:
    """What quantised layers would keep of the updates that ``fit`` has placed, by path.

    Layers whose weight no update changes are left out. One layer's weight at a time is in memory.
    """
    updates, found = _updates(loras, fit), {}
    for path, layer in linears(model).items():
        if path in updates and isinstance(layer, nn.QuantizedLinear):
            weight, _ = _changes(path, layer, loras, updates)
            if (kept := retained(layer, weight)) is not None:
                found[path] = kept
    return found


def _changes(
    path: str, layer: Linear, loras: Loras, updates: dict[str, dict[int, Update]]
) -> tuple[mx.array, mx.array | None]:
    """The changes of a layer; its updates are taken out, so that they are freed when done."""
    own = updates.pop(path)
    return changes(layer, {n: (u, loras[n][1].at(path)) for n, u in own.items()})


def add_trainable(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    target_modules: Iterable[str],
    quantization_aware: bool = False,
) -> list[str]:
    """Freeze the model, put a new float32 adapter on what the targets name, return the paths.

    A target is the end of a module path, such as "to_q" or "audio_ff.net.2". With
    ``quantization_aware`` those on quantised layers see what fusing makes of them (aware.py); in a
    float layer that is themselves. Raises UserError for a target that names no layer: it would
    otherwise leave that layer untrained without a word; and where no layer is quantised.
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
    aware = {p for p in paths if quantization_aware and isinstance(layers[p], nn.QuantizedLinear)}
    if quantization_aware and not aware:
        raise UserError(
            f"lora.quantization_aware: {paths[0]} is not quantised, nor is another layer of "
            "lora.target_modules.\nSet acceleration.quantization, as affine-4bit, or leave it out"
        )
    model.freeze()
    new = [(p, _trainable(layers[p], rank=rank, alpha=alpha, aware=p in aware)) for p in paths]
    model.update_modules(tree_unflatten(new))
    return paths


def load_trainable(model: nn.Module, file: LoRAFile) -> None:
    """Put a file's values into the adapter that ``add_trainable`` made, to go on training it.

    Raises LoRAError unless layers, sizes and rank are exactly the adapter's.
    """
    layers = lora_layers(model)
    names = list_names(layers)
    meant = {name: names.find(name) for name in file.entries}
    found = {path: name for name, paths in meant.items() for path in paths}
    problems = [f"missing: {path}" for path in sorted(layers.keys() - found.keys())]
    problems += [f"unknown: {name}" for name, paths in sorted(meant.items()) if not paths]
    for path, name in sorted(found.items()):
        entry, layer = file.entries[name], layers[path]
        there, here = (entry.rank, *(entry.shape or ())), _sizes(layer)
        if there != here:
            problems.append(f"{path}: rank, out, in are {there} in the file, {here} would fit")
        if entry.family != "LoRA" or entry.keys.keys() & {"magnitude", "diff_b"}:
            problems.append(f"{path}: a plain LoRA would fit, not {', '.join(entry.keys)}")
    if problems:
        listed = summarise(problems, shown=2)
        raise LoRAError(f"{file.path} does not fit the adapter to be trained:\n{listed}")
    updates = file.updates()
    for path, name in found.items():
        layer, adapter = layers[path], updates[name].cast(mx.float32).low_rank
        assert adapter is not None
        layer.lora_A, layer.lora_B = adapter.A, adapter.scale / layer.scales[0] * adapter.B


def _sizes(layer: LoRALinear) -> tuple[int, ...]:
    return (len(layer.lora_A), *weight_shape(layer.base))


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


def _trainable(base: Linear, *, rank: int, alpha: float, aware: bool) -> LoRALinear:
    """PEFT's start: lora_A Kaiming uniform with a = sqrt(5), lora_B zero, so nothing changes."""
    out_dims, in_dims = weight_shape(base)
    bound = 1 / math.sqrt(in_dims)
    lora_A = mx.random.uniform(-bound, bound, (rank, in_dims))
    adapter = Adapter(lora_A, mx.zeros((out_dims, rank)), alpha / rank)
    layer = (AwareLoRALinear if aware else LoRALinear)(base, {0: adapter})
    layer.unfreeze(recurse=False, keys=["lora_A", "lora_B"])
    return layer


def _updates(loras: Loras, fit: Fit) -> dict[str, dict[int, Update]]:
    """The updates of each path that is placed, by the number of their file."""
    found: dict[str, dict[int, Update]] = {path: {} for path in fit.placed}
    for number, ((file, _), names) in enumerate(zip(loras, fit.names, strict=True)):
        updates = file.updates(names.values())
        for path, name in names.items():
            found[path][number] = updates[name]
    return found


def _last_name(path: str) -> str:
    """The path without its leading modules, but with the index of a list kept: "to_out.0"."""
    *_, parent, name = ["", *path.split(".")]
    return f"{parent}.{name}" if name.isdigit() else name
