"""A transformer that is quantised at load, kept for the next run.

The cache has the same numbers as quantising in memory, so it changes nothing but the time.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.conversion import LAST, quantization_entries
from ltx_models.converted.folder import TensorFolder
from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    MODEL_TYPE,
    TRANSFORMER,
    TRANSFORMER_FOLDER,
)
from ltx_models.converted.plan import Unit, index_files, json_text, plan_shards, size_text
from ltx_models.converted.shard import DTYPES, make_stored, write_component
from ltx_models.errors import reason
from ltx_models.files import remove_unfinished
from ltx_models.identity import weights_hash
from ltx_models.quantize import Quantization
from ltx_models.tiny import CACHE, CACHE_VARIABLE

PART = tuple(each for each in COMPONENTS if each.folder == TRANSFORMER_FOLDER)
DIGITS = 12  # hexadecimal, of a hash in a folder's name


def quantised_at_load(
    checkpoint: Checkpoint, how: Quantization, *, dtype: mx.Dtype, say: Callable[[str], None]
) -> Checkpoint | None:
    """The checkpoint with its transformer quantised, from the cache, into which it is put first.

    ``dtype`` is that of the model it is for. None where the cache has no room or cannot be written,
    and ``say`` is told why; it is told which folder is used otherwise.
    """
    cache = Path(os.environ.get(CACHE_VARIABLE) or CACHE).expanduser() / "quantised"
    folder = cache / _name(checkpoint, how, dtype)
    if not (folder / LAST).is_file():
        try:
            problem = _make(folder, checkpoint, how, dtype)
        except OSError as error:
            problem = reason(error)
        if problem is not None:
            say(f"{how}: quantised in memory and not kept in {cache}: {problem}")
            return None
        say(f"{how}: kept for the next run in {folder}")
    else:
        say(f"{how}: from {folder}")
    return replace(checkpoint, file=TensorFolder(folder, PART))


def _name(checkpoint: Checkpoint, how: Quantization, dtype: mx.Dtype) -> str:
    digits = weights_hash([checkpoint.file], prefixes=(TRANSFORMER,))[:DIGITS]
    stored = _dtype_name(dtype).lower()
    version = ".".join(map(str, checkpoint.version[:2]))
    return f"ltx-{version}-{digits}-{how.mode}{how.bits}-{how.group_size}-{stored}"


def _dtype_name(dtype: mx.Dtype) -> str:
    return next(name for name, own in DTYPES.items() if own == dtype)


def _make(folder: Path, checkpoint: Checkpoint, how: Quantization, dtype: mx.Dtype) -> str | None:
    """Write the folder whole or not at all; the reason where there is no room for it."""
    shards = plan_shards(checkpoint.file, PART, how, dtype=_dtype_name(dtype))
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder.parent, pattern=".*.unfinished")
    need = sum(shard.num_bytes for found in shards.values() for shard in found)
    free = shutil.disk_usage(folder.parent).free
    if need > free:
        return f"it takes {size_text(need)}, and {size_text(free)} are free there"
    part = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")

    def make(unit: Unit, value: mx.array) -> Sequence[mx.array]:
        # As a model in memory has it before it is quantised.
        return make_stored(unit, value if unit.how is None else value.astype(dtype))

    texts = {
        CONFIG: json_text({"model_type": MODEL_TYPE}),
        **index_files(shards),
        LAST: json_text({**checkpoint.config["transformer"], **quantization_entries(how)}),
    }
    try:
        for _ in write_component(
            part / TRANSFORMER_FOLDER, shards[TRANSFORMER_FOLDER], checkpoint.file, make
        ):
            pass
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8")
        _publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return None


def _publish(part: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first."""
    try:
        part.rename(folder)
    except OSError:
        if not (folder / LAST).is_file():
            raise
