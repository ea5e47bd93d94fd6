"""What ltx-lora inspect says of a LoRA: as data, and in lines."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

import mlx.core as mx

from ltx_infer.hub.place import shown_size
from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.errors import printable
from ltx_models.lora.about import made_for
from ltx_models.lora.files import LoRAFile
from ltx_models.lora.fit import match
from ltx_models.lora.linear import Linear, linears
from ltx_models.lora.names import in_text_path, model_names, released_names
from ltx_models.lora.summary import Summary, summary
from ltx_models.lora.updates import float_weight
from ltx_models.transformer import empty_transformer
from ltx_models.transformer.config import TransformerConfig

SHOWN = 3  # names in a line
LONGEST = 60  # characters of what a file says
# Keys of a file's metadata that say what it is for and how it was made, and the words for them.
SAID = {
    "modelspec.title": "title",
    "trigger": "trigger",
    "modelspec.trigger_phrase": "trigger",
    "base_model_file": "base",
    "base_model_variant": "variant",
    "trained_streams": "trained",
    "given_streams": "given",
    "trained_conditions": "conditions",
    "quantization_aware": "quantisation-aware",
    "steps": "steps",
    "ss_steps": "steps",
    "trainer": "trainer",
}
COLUMNS = ("changes", "blocks", "layers", "rank", "norm", "largest", "of its weight")


def inspect(file: LoRAFile, checkpoint: Checkpoint | None = None) -> dict[str, Any]:
    """Everything there is to know of a file, and whether it fits a checkpoint, for JSON.

    Reads every tensor of the file, and of the checkpoint one weight for each kind of layer. Raises
    LoRAError for a name that is ambiguous, or that another has too.
    """
    config = None if checkpoint is None else checkpoint.section("transformer", TransformerConfig)
    names = released_names() if config is None else model_names(config)
    found, entries = summary(file, names), file.entries.values()
    made = made_for(file.metadata)
    return {
        "file": str(file.path),
        "bytes": file.path.stat().st_size,
        "families": file.families,
        "written_as": _spelling(file),
        "types": dict(Counter(info.dtype for info in file.file.infos.values())),
        "layers": len(entries),
        "ranks": _counts(entry.rank for entry in entries),
        "alphas": _counts("none" if entry.alpha is None else entry.alpha for entry in entries),
        "scales": _counts(entry.scale for entry in entries),
        "norm": sum(part.norm**2 for part in found.parts) ** 0.5,
        "parts": [part._asdict() for part in found.parts],
        "dead": found.dead,
        "nearly_dead": found.nearly_dead,
        "unknown": found.unknown,
        "scrambled": file.scrambled,
        "made_for": None if made is None else made.words,
        "reference_downscale_factor": file.reference_downscale_factor,
        "reference_temporal_scale_factor": file.reference_temporal_scale_factor,
        "metadata": dict(file.metadata),
        "model": None if checkpoint is None else _fit(file, found, checkpoint),
    }


def _fit(file: LoRAFile, found: Summary, checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.section("transformer", TransformerConfig)
    model = empty_transformer(checkpoint)
    matched = match(file, model_names(config), model)
    layers = linears(model)
    shares = {}
    for part in found.parts:
        path = part.largest_at
        fits = path in layers and not any(line.startswith(path) for line in matched.misshapen)
        if fits and part.largest:
            shares[part.name] = part.largest / _weight_norm(checkpoint, path, layers[path])
    return {
        "file": str(checkpoint.path),
        "version": ".".join(map(str, checkpoint.version[:2])),
        "matched": len(matched.found) - len(matched.misshapen),
        "unmatched": matched.unmatched,
        "misshapen": matched.misshapen,
        "warnings": file.warnings(checkpoint.version),
        "text_path": sum(in_text_path(path) for path in matched.found),
        "share_of_weight": shares,
    }


def _weight_norm(checkpoint: Checkpoint, path: str, layer: Linear) -> float:
    """The norm of a layer's weight, which is read into the layer."""
    checkpoint.fill(layer, {"": f"{TRANSFORMER}{path}."})
    return cast(float, mx.linalg.norm(float_weight(layer)).item())


def _spelling(file: LoRAFile) -> dict[str, str]:
    """A key of each part, with a star for the layer."""
    found: dict[str, str] = {}
    for name, entry in file.entries.items():
        for part, key in entry.keys.items():
            found.setdefault(part, key.replace(name, "*", 1))
    return found


def _counts(values: Iterable[object]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items(), key=str)}


def lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is said before the table: a word, and what there is to say of it."""
    families, size = " and ".join(report["families"]), shown_size(report["bytes"])
    found = [
        ("file", report["file"]),
        ("what", f"{families} on {report['layers']} layers, {size}"),
        ("keys", ", ".join(report["written_as"].values())),
        ("numbers", _times(report["types"])),
        ("rank", _times(report["ranks"])),
        ("alpha", f"{_times(report['alphas'])}; update times {_times(report['scales'])}"),
        ("made for", report["made_for"] or "unknown: its metadata names no model"),
    ]
    factors = (report["reference_downscale_factor"], report["reference_temporal_scale_factor"])
    if factors != (1, 1):
        found.append(("references", f"{factors[0]} times smaller, {factors[1]} times slower"))
    said = {
        word: printable(report["metadata"][key], longest=LONGEST)
        for key, word in SAID.items()
        if key in report["metadata"]
    }
    return [*found, *said.items()]


def rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table: a line for each kind of layer, under ``COLUMNS``."""
    shares = (report["model"] or {}).get("share_of_weight", {})
    return [
        (
            part["name"],
            part["blocks"],
            str(len(part["paths"])),
            ", ".join(map(str, part["ranks"])),
            f"{part['norm']:.3g}",
            f"{part['largest']:.3g}",
            f"{100 * shares[part['name']]:.2f} %" if part["name"] in shares else "",
        )
        for part in report["parts"]
    ]


def findings(report: Mapping[str, Any]) -> list[str]:
    """What is wrong with the file, and how it fits a model, one line each."""
    found = []
    total = report["layers"]
    if dead := report["dead"]:
        found.append(f"{len(dead)} of {total} layers do nothing, all zero: {_some(dead)}")
    if weak := report["nearly_dead"]:
        found.append(f"{len(weak)} of {total} layers do next to nothing: {_some(weak)}")
    model = report["model"]
    if unknown := report["unknown"]:
        which = "LTX-2" if model is None else "this model"
        found.append(f"{len(unknown)} of {total} layers are no layers of {which}: {_some(unknown)}")
    if model is None:
        if report["scrambled"]:
            found.append("its factors look scrambled: ltx-lora convert --repair puts them right")
        return found
    found += model["warnings"]
    counts = f"{model['matched']} of {total} layers fit"
    misfits = (("unmatched", model["unmatched"]), ("of other sizes", model["misshapen"]))
    counts += "".join(f", {len(names)} {word}" for word, names in misfits if names)
    found.append(f"{model['file']}, LTX-{model['version']}: {counts}")
    return [*found, *model["misshapen"][:SHOWN]]


def _times(counts: Mapping[str, int]) -> str:
    """One value by itself, several each with how often."""
    shown = [_number(value) for value in counts]
    if len(shown) == 1:
        return shown[0]
    return ", ".join(f"{text} ({n})" for text, n in zip(shown, counts.values(), strict=True))


def _number(text: str) -> str:
    return text.removesuffix(".0")


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
