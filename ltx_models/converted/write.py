"""A checkpoint to a converted folder, file by file.

What is written first is config.json, with a hash of all that decides the other files; what is
written last is the transformer's own, by which a folder is known to be whole. A run that was killed
is repeated: what is there under its name is complete, and is kept.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import mlx.core as mx

from ltx_models.compensate.blocks import compensated
from ltx_models.compensate.fit import Compensated
from ltx_models.config import ConfigError, read_object
from ltx_models.converted.conversion import CARD, LAST, Conversion, plan_conversion
from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    LORAS,
    MODEL_TYPE,
    TRANSFORMER,
    TRANSFORMER_FOLDER,
    UPSCALERS,
)
from ltx_models.converted.plan import Unit, json_text, size_text
from ltx_models.converted.request import ConvertRequest, Report, Say
from ltx_models.converted.shard import Make, is_finished, make_stored, write_component
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.files import check_writable, remove_unfinished, unfinished, write_text

SHOWN = 4  # names in a message
OWN = {CONFIG, CARD, UPSCALERS, LORAS, *(each.folder.split("/")[0] for each in COMPONENTS)}


def _quietly(*_: object) -> None:
    pass


def convert(
    request: ConvertRequest, *, say: Say = _quietly, report: Report = _quietly
) -> Conversion:
    """Convert as asked, or go on where the same request was stopped; gives what was planned.

    ``say`` is told in one line each what was decided, ``report`` how many tensors of a folder are
    done. Raises UserError as ``plan_conversion``, ``check_place`` and ``check_disk``, before
    anything is written.
    """
    conversion = plan_conversion(request)
    for note in conversion.notes:
        say(note)
    check_place(conversion)
    remove_unfinished(request.output)  # which takes room
    check_disk(conversion)
    write(conversion, report=report)
    return conversion


def check_place(conversion: Conversion) -> None:
    """Raise UserError where the folder is something else's."""
    request = conversion.request
    output = request.output
    check_writable(output, name="--output")
    source = request.source.resolve()
    if output.resolve() in (source, *source.parents):
        raise UserError(f"--output {output}: the source lies in it; name another folder")
    if not request.overwrite and (strangers := _strangers(conversion)):
        names = ", ".join(strangers[:SHOWN]) + (", ..." if len(strangers) > SHOWN else "")
        raise UserError(
            f"--output {output}: holds another conversion or other files ({names}).\n"
            "Name another folder, or write over a converted one with --overwrite"
        )
    if request.overwrite and not _is_ours(output):
        raise UserError(
            f"--overwrite {output}: no converted folder, so nothing of it is removed; empty it "
            "yourself"
        )


def _strangers(conversion: Conversion) -> list[str]:
    """What is in the folder, unless it is of this very request or only begun."""
    output = conversion.request.output
    if not output.is_dir() or is_same(conversion):
        return []
    return sorted(path.name for path in output.iterdir() if not path.name.startswith("."))


def is_same(conversion: Conversion) -> bool:
    """Whether the folder was begun by a request that gives the same files."""
    return said_of(conversion.request.output).get("conversion") == conversion.about["conversion"]


def said_of(folder: Path) -> Mapping[str, object]:
    """A folder's config.json; empty where there is none that can be read."""
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except ConfigError:
        return {}


def _is_ours(output: Path) -> bool:
    """Whether it is empty, or a converted folder, whole or begun."""
    if not output.is_dir() or not any(output.iterdir()):
        return True
    return said_of(output).get("model_type") == MODEL_TYPE


def check_disk(conversion: Conversion) -> None:
    """Raise UserError where the disk has not the room for what is not there yet."""
    output = conversion.request.output
    need, free = conversion.missing_bytes, conversion.free_bytes
    if conversion.request.overwrite and not is_same(conversion):
        need, free = conversion.num_bytes, free + sum(map(_size, _own(output)))
    if need > free:
        raise UserError(
            f"--output {output}: {size_text(need)} ({need} bytes) are to be written, and "
            f"{size_text(free)} are free there. Nothing was written"
        )


def _own(output: Path) -> list[Path]:
    return [path for name in sorted(OWN) if (path := output / name).exists()]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def write(conversion: Conversion, *, report: Report = _quietly) -> None:
    """Write every file that is not there yet; ``check_place`` has said that they may be."""
    output = conversion.request.output
    if conversion.request.overwrite and not is_same(conversion):
        _clear(output)
    write_text(output / CONFIG, json_text(conversion.about))
    value = _values(conversion)
    for folder, shards in conversion.shards.items():
        total = sum(len(shard.units) for shard in shards)
        report(folder, 0, total)
        units = write_component(output / folder, shards, conversion.checkpoint.file, value)
        for done, _ in enumerate(units, 1):
            report(folder, done, total)
    for done, (name, path) in enumerate(conversion.copies.items()):
        report("copies", done, len(conversion.copies))
        if not conversion.has(name):
            with unfinished(output / name) as part:
                shutil.copyfile(path, part)
        report("copies", done + 1, len(conversion.copies))
    for name in sorted(conversion.texts, key=lambda name: (name == LAST, name)):
        write_text(output / name, conversion.texts[name])


def _clear(output: Path) -> None:
    """Remove what a conversion writes; the transformer's config.json first, as it says "whole"."""
    (output / LAST).unlink(missing_ok=True)
    for path in _own(output):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _values(conversion: Conversion) -> Make:
    """What is stored of each tensor."""
    fusing, adapters = conversion.fusing, _adapters(conversion)

    def make(unit: Unit, value: mx.array) -> Sequence[mx.array]:
        if unit.compensated:
            return adapters(unit)
        if fusing is not None and fusing.changes_key(unit.key):
            value = fusing.changed(unit.key, value)
        return make_stored(unit, value)

    return make


def _adapters(conversion: Conversion) -> Callable[[Unit], Sequence[mx.array]]:
    """Gives the quantised layers that are compensated, which come out block after block."""
    request, checkpoint = conversion.request, conversion.checkpoint
    folder = request.output / TRANSFORMER_FOLDER
    left = {
        unit.key.removeprefix(TRANSFORMER).removesuffix(".weight"): unit.how
        for shard in conversion.shards[TRANSFORMER_FOLDER]
        if not is_finished(folder / shard.name, shard)
        for unit in shard.units
        if unit.compensated and unit.how is not None
    }
    found: Iterator[tuple[str, Compensated]] = iter(())
    if left:
        assert request.compensate is not None
        assert request.gemma is not None
        found = compensated(
            checkpoint,
            request.gemma,
            left,
            request.compensate,
            dtype=compute_dtype(),
            fusing=conversion.fusing,
        )
    ready: dict[str, Compensated] = {}  # of one block at most, as units go by blocks, too

    def take(unit: Unit) -> Sequence[mx.array]:
        path = unit.key.removeprefix(TRANSFORMER).removesuffix(".weight")
        while path not in ready:
            ready.update([next(found)])
        return list(ready.pop(path).tensors().values())

    return take
