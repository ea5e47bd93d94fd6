"""Networks of which only the shapes are there: built for a file's header, with no weights of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ltx_infer.pipeline.models import Models
from ltx_models.checkpoint import Checkpoint
from ltx_models.lora.files import LoRAFile
from ltx_models.lora.fit import fit_loras
from ltx_models.lora.linear import Adapter, LoRALinear, linears, weight_shape
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import Streams
from ltx_models.transformer.model import Transformer

M = TypeVar("M", bound=nn.Module)
FUSING = 3  # float32 weights of a layer at work: its own, the update, and their sum
STORED = 2  # bytes of a value in a file, as released


class Loaded(NamedTuple):
    """A transformer as a stage has it."""

    model: Transformer
    more: int = 0  # bytes of adapters that are no product of two factors


def header_of(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint for networks without weights."""
    return replace(checkpoint, header_only=True)


def as_type(module: M, dtype: mx.Dtype) -> M:
    """A network with its weights in a type, but for those that are packed; none is computed."""
    module.set_dtype(dtype, lambda found: not mx.issubdtype(found, mx.integer))
    return module


def num_bytes(module: nn.Module) -> int:
    """What a network's weights take."""
    return sum(x.nbytes for x in _leaves(module))


def planned_transformer(
    models: Models,
    streams: Streams,
    files: Sequence[LoRAFile],
    *,
    bits: int | None,
    allow_unmatched: bool = False,
) -> Loaded:
    """The transformer of some streams, quantised and with files attached, if any."""
    model = load_transformer(header_of(models.checkpoint), dtype=models.dtype, streams=streams)
    as_type(model, models.dtype)
    if bits is not None and not models.checkpoint.quantization:
        quantize(model, quantization(bits), evaluate=False)
    return Loaded(model, _attach(model, files, models.dtype, allow_unmatched=allow_unmatched))


def fusing_bytes(model: Transformer) -> int:
    """What the largest layer takes while an update is added to it."""
    sizes = (rows * columns for rows, columns in map(weight_shape, linears(model).values()))
    return FUSING * mx.float32.size * max(sizes)


def _attach(
    model: Transformer, files: Sequence[LoRAFile], dtype: mx.Dtype, *, allow_unmatched: bool
) -> int:
    """Wrap layers as ``adapters.attach`` does; bytes of the updates that are of other kinds."""
    if not files:
        return 0
    fit = fit_loras(model, list(files), allow_unmatched=allow_unmatched)
    ranks: dict[str, int] = {}
    others = 0
    for file, names in zip(files, fit.names, strict=True):
        for path, name in names.items():
            entry = file.entries[name]
            if entry.family == "LoRA" and entry.rank:
                ranks[path] = ranks.get(path, 0) + entry.rank
            else:
                others += sum(_size(file, key) for key in entry.keys.values()) * dtype.size
    layers = linears(model)
    new = []
    for path, rank in ranks.items():
        if path in layers:
            rows, columns = weight_shape(layers[path])
            adapter = Adapter(mx.zeros((rank, columns), dtype), mx.zeros((rows, rank), dtype), 1.0)
            new.append((path, LoRALinear(layers[path], {0: adapter})))
    model.update_modules(tree_unflatten(new))
    return others


def _size(file: LoRAFile, key: str) -> int:
    total = 1
    for side in file.file.infos[key].shape if key in file.file.infos else ():
        total *= side
    return total


def _leaves(module: nn.Module) -> list[mx.array]:
    found = cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
    return [x for _, x in found]
