"""LoRAs into a converted folder that is quantised already: measured, then written to another one.

Every file keeps its name and its tensors theirs. Only files with a layer that is changed are made
anew, tensor by tensor; all others are copied.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.compensate.linear import A, B, CompensatedLinear
from ltx_models.converted.conversion import CARD, LAST
from ltx_models.converted.folder import TensorFolder
from ltx_models.converted.fusing import Fusing, finite, plan_fusing
from ltx_models.converted.layout import CONFIG, TRANSFORMER
from ltx_models.converted.plan import Shard, Stored, Unit, json_text, size_text
from ltx_models.converted.request import ConvertRequest, Report, Say
from ltx_models.converted.shard import Make, make_stored, write_shard
from ltx_models.converted.write import said_of
from ltx_models.errors import UserError
from ltx_models.files import check_writable, remove_unfinished, unfinished, write_text
from ltx_models.identity import weights_hash
from ltx_models.lora.aware import requantised
from ltx_models.lora.put import changes
from ltx_models.lora.retained import Retained, check_retained, in_all, retained, retained_lines
from ltx_models.lora.updates import stored_weight
from ltx_models.quantize import PACKED

MADE_FROM = "- made from "  # the line of a card that what was fused comes after


def fuse_folder(
    checkpoint: Checkpoint, request: ConvertRequest, *, anyway: bool, say: Say, report: Report
) -> int:
    """Write a quantised folder with LoRAs fused into its weights; the bytes of what was written.

    ``checkpoint`` is the request's source; nothing is quantised otherwise than it was. One layer's
    float weight is in memory at a time. Raises UserError where there is no place for it, LoRAError
    as ``fit_loras``, and where the weights keep too little of the LoRAs (``lora.retained``); then
    nothing is written. ``anyway``, and LoRAs that have learnt to be fused into just these weights,
    go on.
    """
    file = checkpoint.file
    assert isinstance(file, TensorFolder)
    if not (file.path / CONFIG).is_file():
        raise UserError(
            f"{file.path}: is quantised, and not in the layout that ltx-convert writes.\n"
            "Attach the LoRA instead, or convert the float weights with --lora"
        )
    about = _about(file.about, request)
    sizes = _check_place(file.path, request.output, about)
    fusing = plan_fusing(checkpoint, request.loras, allow_unmatched=request.lora_allow_unmatched)
    for note in fusing.notes(checkpoint):
        say(note)
    found = _measured(checkpoint, fusing, report)
    learnt = all(checkpoint.stored == {lora.merge} for lora, _ in request.loras)
    if not anyway and not learnt:
        check_retained(found)
    for line in retained_lines(found):
        say(line)
    _write(checkpoint, fusing, found, report, output=request.output, about=about)
    return sum(sizes.values())


def _check_place(source: Path, output: Path, about: Mapping[str, Any]) -> dict[Path, int]:
    """The files of a folder with their sizes. Raises UserError unless there is room for them.

    What the same request has begun is written again.
    """
    check_writable(output, name="--output")
    begun = said_of(output).get("conversion") == about["conversion"]
    if output.is_dir() and any(output.iterdir()) and (not begun or (output / LAST).exists()):
        raise UserError(f"--output {output}: is not empty; name another folder")
    if source.resolve() in output.resolve().parents:
        raise UserError(f"--output {output}: lies in the source; name another folder")
    paths = [path for path in source.rglob("*") if path.is_file() and not _hidden(path, source)]
    sizes = {path.relative_to(source): path.stat().st_size for path in paths}
    there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    need, free = sum(sizes.values()), shutil.disk_usage(there).free
    if need > free:
        raise UserError(
            f"--output {output}: {size_text(need)} are to be written, and {size_text(free)} are "
            "free there. Nothing was written"
        )
    return sizes


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _measured(checkpoint: Checkpoint, fusing: Fusing, report: Report) -> dict[str, Retained]:
    paths = [path for path in fusing.fit.placed if path in checkpoint.quantization]
    found = {}
    for number, path in enumerate(paths):
        report("measuring", number, len(paths))
        layer = _layer(checkpoint, path)
        kept = retained(layer, changes(layer, fusing.updates(path))[0])
        if kept is not None:
            found[path] = kept
        mx.clear_cache()
    report("measuring", len(paths), len(paths))
    return found


def _layer(checkpoint: Checkpoint, path: str) -> nn.QuantizedLinear:
    """A layer as it is stored, with what makes up for that and without its bias; lazily."""
    how, at = checkpoint.quantization[path], f"{TRANSFORMER}{path}."
    layer = nn.QuantizedLinear(how.group_size, 1, False, how.group_size, how.bits, how.mode)
    names = [*PACKED, A, B]
    there = [name for name in names if at + name in checkpoint.file.infos]
    tensors = checkpoint.file.tensors(at, there)
    layer.weight, layer.scales = tensors["weight"], tensors["scales"]
    layer.biases = tensors.get("biases")
    if A in tensors:  # DoRA has norms of all of the weight
        layer = CompensatedLinear(layer, len(tensors[A]))
        layer.compensation_A, layer.compensation_B = tensors[A], tensors[B]
    return layer


def _write(
    checkpoint: Checkpoint,
    fusing: Fusing,
    found: Mapping[str, Retained],
    report: Report,
    *,
    output: Path,
    about: Mapping[str, Any],
) -> None:
    """In the order of a conversion: the folder's config.json first, the transformer's last."""
    file = checkpoint.file
    assert isinstance(file, TensorFolder)
    keys: dict[Path, list[str]] = {}
    for key in file.infos:  # not a dict's
        keys.setdefault(file.place(key)[0], []).append(key)
    make = _make(checkpoint, fusing, found)
    remove_unfinished(output)
    write_text(output / CONFIG, json_text(about))
    paths = sorted(path for path in file.path.rglob("*") if path.is_file())
    names = [path.relative_to(file.path) for path in paths if not _hidden(path, file.path)]
    for name in sorted(names, key=lambda name: (name.as_posix() == LAST, name)):
        path = file.path / name
        own = sorted(keys.get(path, ()))
        if any(_is_changed(key, fusing, found) for key in own):
            shard = Shard(name.name, [_unit(file, key) for key in own])
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            for done, _ in enumerate(write_shard(output / name, shard, file, make), 1):
                report(name.as_posix(), done, len(own))
        elif name.as_posix() == CARD:
            fused = about["loras"][-len(fusing.loras) :]
            write_text(output / name, _card(path.read_text(encoding="utf-8"), fused, found))
        elif name.as_posix() != CONFIG:
            with unfinished(output / name) as part:
                shutil.copyfile(path, part)


def _unit(file: TensorFolder, key: str) -> Unit:
    info = file.infos[key]
    return Unit(key, (Stored(file.place(key)[1], info.dtype, info.shape),))


def _is_changed(key: str, fusing: Fusing, found: Mapping[str, Retained]) -> bool:
    return _stored_part(key, found) is not None or fusing.changes_key(key)


def _stored_part(key: str, layers: Mapping[str, object]) -> tuple[str, str] | None:
    """The path of one of these quantised layers, and which of its arrays a key is; None: none."""
    path, _, part = key.removeprefix(TRANSFORMER).rpartition(".")
    return (path, part) if path in layers and part in PACKED else None


def _make(checkpoint: Checkpoint, fusing: Fusing, found: Mapping[str, Retained]) -> Make:
    """What is stored of each tensor."""
    last: dict[str, dict[str, mx.array]] = {}  # the layer that was made last, whose arrays follow

    def make(unit: Unit, value: mx.array) -> Sequence[mx.array]:
        at = _stored_part(unit.key, found)
        if at is not None:
            path, part = at
            if path not in last:
                last.clear()
                last[path] = _fused(checkpoint, fusing, path)
            return [last[path][part]]
        if _stored_part(unit.key, checkpoint.quantization) is None and fusing.changes_key(unit.key):
            return make_stored(unit, fusing.changed(unit.key, value))
        return [value]

    return make


def _fused(checkpoint: Checkpoint, fusing: Fusing, path: str) -> dict[str, mx.array]:
    layer = _layer(checkpoint, path)
    weight = finite(stored_weight(layer) + changes(layer, fusing.updates(path))[0], path)
    arrays = requantised(layer, weight)
    named = zip(PACKED, arrays, strict=True)
    made = {name: array for name, array in named if array is not None}
    mx.eval(made)
    return made


def _about(about: Mapping[str, Any], request: ConvertRequest) -> dict[str, Any]:
    """The folder's configuration, with what was fused, and another hash of all that decides it."""
    entries = [
        {"name": file.path.name, "strength": strength.video, "audio_strength": strength.audio}
        for file, strength in request.loras
    ]
    hashes = [weights_hash([file.path]) for file, _ in request.loras]
    decisive = json.dumps([about.get("conversion"), request.variant, entries, hashes])
    return {
        **about,
        **({} if request.variant is None else {"variant": request.variant}),
        "loras": [*about.get("loras", []), *entries],
        "conversion": hashlib.sha256(decisive.encode()).hexdigest()[:16],
    }


def _card(text: str, loras: Sequence[Mapping[str, Any]], found: Mapping[str, Retained]) -> str:
    """A card with what was fused, and how much of it the weights took up."""
    kept = f", {in_all(found.values()).in_words}" if found else ""
    lines = []
    for line in text.split("\n"):
        lines.append(line)
        if line.startswith(MADE_FROM):
            lines += [
                f"- LoRA `{lora['name']}` fused into the quantised weights at strength "
                f"{lora['strength']:g}{kept}"
                for lora in loras
            ]
    return "\n".join(lines)
