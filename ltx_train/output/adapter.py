"""The file of trained weights: written, read back, and tried on the model before it has its name.

An adapter's keys are ComfyUI's and PEFT's, ``diffusion_model.<module>.lora_A.weight``, with
alpha / rank in lora_B (spec/training.md 1.7). Where an average of the weights is kept, that is what
is saved: it is what a run with one is for, and the state to resume from has the others.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.config import summarise
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.errors import UserError
from ltx_models.files import unfinished
from ltx_models.lora.adapters import lora_tensors
from ltx_models.lora.files import read_lora
from ltx_models.lora.fit import fit_loras
from ltx_models.transformer import load_transformer
from ltx_models.transformer.model import Transformer
from ltx_models.weights import TensorFile, save_tensors
from ltx_train.config import TrainConfig
from ltx_train.optimizer import Tensors
from ltx_train.output.facts import Facts
from ltx_train.output.layout import adapter_path, model_path, weight_files
from ltx_train.output.metadata import file_metadata, quantization_metadata
from ltx_train.step import TrainState

PRECISIONS: Mapping[str, mx.Dtype] = {"bfloat16": mx.bfloat16, "float32": mx.float32}
SAME_SIZE: Mapping[int, mx.Dtype] = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
HASH = "modelspec.hash_sha256"
SHOWN = 2  # tensors in a message


def saved_values(state: TrainState) -> Tensors:
    """What of a state is saved for use: the average where one is kept, else the weights."""
    return state.average or state.parameters


def write_adapter(
    model: Transformer, config: TrainConfig, facts: Facts, *, step: int, values: Tensors
) -> Path:
    """Write a step's adapter, ``values`` by path in the model; the path of the file.

    Raises UserError where what is read back is not what was trained, or does not fit the model
    that ltx-generate builds; there is no file then.
    """
    dtype = PRECISIONS[config.checkpoints.precision]
    tensors = _cast(lora_tensors(model, values), dtype)
    about = file_metadata(config, facts, step=step) | quantization_metadata(model)
    path = adapter_path(config.output, step)
    with unfinished(path) as part:
        save_tensors(part, tensors, about)
        save_tensors(part, tensors, {**about, HASH: f"0x{_values_hash(part)}"})
        check_same(part, tensors, name=path)
        with _usable(part, path):  # the model is lazy: no weight is made
            fit_loras(Transformer(model.config), [read_lora(part)])
    return path


def write_model(
    checkpoint: Checkpoint, config: TrainConfig, facts: Facts, *, step: int, values: Tensors
) -> Path:
    """Write a step's model where all weights are trained, ``values`` by path in the transformer.

    A whole checkpoint, for ``ltx-generate --model``: what was not trained is the base's. Raises
    UserError as ``write_adapter``, and for values that the base has no tensor for.
    """
    dtype = PRECISIONS[config.checkpoints.precision]
    trained = {f"{TRANSFORMER}{name}": value.astype(dtype) for name, value in values.items()}
    keys = checkpoint.file.keys("")
    if strange := sorted(trained.keys() - set(keys)):
        raise UserError(f"{checkpoint.path}: has no tensor {summarise(strange, shown=SHOWN)}")
    kept = checkpoint.file.tensors("", [key for key in keys if key not in trained])
    tensors = _cast({**kept, **trained}, None)
    said = {"config": json.dumps(checkpoint.config), **checkpoint.file.metadata}
    about = said | file_metadata(config, facts, step=step)
    path = model_path(config.output, step)
    with unfinished(path) as part:
        save_tensors(part, tensors, about)
        check_same(part, tensors, name=path)
        with _usable(part, path):
            opened = open_checkpoint(part, allow_unknown=checkpoint.allow_unknown)
            load_transformer(replace(opened, header_only=True), dtype=dtype)
    return path


@contextmanager
def _usable(part: Path, path: Path) -> Iterator[None]:
    """Say of the file by its real name what generation has against it."""
    try:
        yield
    except UserError as error:
        said = str(error).replace(str(part), str(path))
        raise UserError(f"ltx-generate would not take what was trained: {said}") from None


def check_same(path: Path, tensors: Mapping[str, mx.array], *, name: Path) -> None:
    """Raise UserError, with ``name``, unless a file holds exactly these tensors, bit by bit."""
    file = TensorFile(path)
    problems = [f"missing: {key}" for key in sorted(tensors.keys() - file.infos.keys())]
    problems += [f"unknown: {key}" for key in sorted(file.infos.keys() - tensors.keys())]
    read = file.tensors("", file.infos.keys() & tensors.keys())
    while read:  # taken out one by one, so that no more than one is in memory
        key, there = read.popitem()
        if not _same_bits(there, tensors[key]):
            problems.append(f"{key}: not the values that were written")
    if problems:
        raise UserError(
            f"{name}: what is on the disk is not what was trained, and was removed:\n"
            f"{summarise(problems, shown=SHOWN)}"
        )


def prune(folder: Path, *, keep: int, best: int | None = None) -> list[Path]:
    """Remove all adapters or models of a run but the last ``keep`` by step; what was removed.

    -1 keeps all. That of step ``best`` stays too, where it is not among the last.
    """
    files = weight_files(folder)
    passed = [] if keep < 0 else files[: max(len(files) - keep, 0)]
    old = [path for step, path in passed if step != best]
    for path in old:
        path.unlink()
    return old


def _cast(tensors: Mapping[str, mx.array], dtype: mx.Dtype | None) -> dict[str, mx.array]:
    """Contiguous, since a file has no strides; in a type, if one is given."""
    return {
        key: mx.contiguous(value if dtype is None else value.astype(dtype))
        for key, value in tensors.items()
    }


def _same_bits(a: mx.array, b: mx.array) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    whole = SAME_SIZE[a.dtype.size]
    return bool(mx.array_equal(a.view(whole), b.view(whole)).item())


def _values_hash(path: Path) -> str:
    """SHA-256 of all that comes after a safetensors file's header."""
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + header_size)
        return hashlib.file_digest(file, "sha256").hexdigest()
