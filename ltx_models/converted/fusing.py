"""LoRAs into a checkpoint's weights, one tensor after the other, before they are quantised."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.lora.adapters import Loras
from ltx_models.lora.files import LoRAError
from ltx_models.lora.fit import Fit, fit_loras
from ltx_models.lora.linear import linears
from ltx_models.lora.put import changes
from ltx_models.lora.updates import Update
from ltx_models.text_encoder.connector import load_connectors
from ltx_models.text_encoder.encode import named
from ltx_models.text_encoder.features import load_own_feature_extractor
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer

SHOWN = 2  # layers in a line
PARTS = ("weight", "bias")


class Fusing(NamedTuple):
    """Adapters with their strengths, and the layers of a checkpoint that they change."""

    loras: Loras
    fit: Fit
    placed: frozenset[str]  # paths of what they change
    linear: frozenset[str]  # those of them that are linear layers; the others are norms and tables

    def changes_key(self, key: str) -> bool:
        """Whether a checkpoint's tensor may be changed."""
        path, part = _split(key)
        return path in self.placed and (part == "weight" or self._has_bias(path))

    def _has_bias(self, path: str) -> bool:
        return any(
            "diff_b" in file.entries[names[path]].keys  # not a dict's
            for (file, _), names in zip(self.loras, self.fit.names, strict=True)
            if path in names
        )

    def changed(self, key: str, value: mx.array) -> mx.array:
        """A tensor with all updates: W + sum of strength * scale * B A, in float32.

        Raises LoRAError where that is not finite.
        """
        return finite(self._changed(key, value), key)

    def _changed(self, key: str, value: mx.array) -> mx.array:
        path, part = _split(key)
        updates = self.updates(path)
        own = value.astype(mx.float32)
        if part == "bias":
            for update, strength in updates.values():
                if update.bias is not None:
                    own = own + strength * update.bias.astype(mx.float32)
            return own
        if path in self.linear:
            layer = nn.Linear(1, 1, bias=False)
            layer.weight = value
            return own + changes(layer, updates)[0]
        for update, strength in updates.values():
            assert update.dense is not None  # fit_loras has seen that it is nothing else
            own = own + strength * update.dense.astype(mx.float32)
        return own

    def updates(self, path: str) -> dict[int, tuple[Update, float]]:
        """What the files have for a layer, each with its strength, by their numbers."""
        found = {}
        for number, (file, strength) in enumerate(self.loras):
            name = self.fit.names[number].get(path)
            if name is not None:
                found[number] = (file.updates([name])[name], strength.at(path))
        return found

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """What speaks against the files, what they change, and what of them is left out."""
        found = []
        for (file, strength), names in zip(self.loras, self.fit.names, strict=True):
            found += [f"{file.path.name}: {line}" for line in file.warnings(checkpoint.version)]
            if file.merge is not None and checkpoint.stored != {file.merge}:
                found.append(f"{file.path.name}: {file.unmerged}")
            sound = "" if strength.audio is None else f", sound {strength.audio:g}"
            found.append(
                f"{file.path.name}: for {len(names)} layers, strength {strength.video:g}{sound}"
            )
        if self.fit.unmatched:
            more = ", ..." if len(self.fit.unmatched) > SHOWN else ""
            found.append(
                f"without {len(self.fit.unmatched)} layers, which this model lacks: "
                f"{', '.join(self.fit.unmatched[:SHOWN])}{more}"
            )
        return found


def finite(value: mx.array, key: str) -> mx.array:
    """A changed tensor, if it is finite; raises LoRAError otherwise."""
    if not mx.isfinite(value).all().item():
        raise LoRAError(f"{key}: with the LoRAs in it it is not finite; lower strengths may do")
    return value


def _split(key: str) -> tuple[str, str]:
    """A layer's path, as LoRAs have it, and which of its tensors a checkpoint's key is."""
    name = key.removeprefix(TRANSFORMER)
    path, _, last = name.rpartition(".")
    return (path, last) if last in PARTS else (name, "weight")


def plan_fusing(checkpoint: Checkpoint, loras: Loras, *, allow_unmatched: bool = False) -> Fusing:
    """Find the layers of the files in transformer and text path; reads no tensor.

    Raises LoRAError as ``fit_loras``, and for a bias where the checkpoint's layer has none.
    """
    model = _shapes_alone(checkpoint)
    files = [file for file, _ in loras]
    fit = fit_loras(model, files, allow_unmatched=allow_unmatched)
    layers = linears(model)
    for file, names in zip(files, fit.names, strict=True):
        _check_biases(file.path.name, {p: file.entries[n].keys for p, n in names.items()}, layers)
    placed = frozenset(fit.placed)
    return Fusing(loras, fit, placed, placed & layers.keys())


def _check_biases(
    name: str, parts: Mapping[str, Mapping[str, str]], layers: Mapping[str, nn.Module]
) -> None:
    without = [
        path for path, own in parts.items() if "diff_b" in own and "bias" not in layers[path]
    ]
    if without:
        raise LoRAError(
            f"{name}: a bias for {without[0]}, {len(without)} such in all; the model has none "
            "there.\nAttach it when you generate: --lora FILE --lora-mode attach"
        )


def _shapes_alone(checkpoint: Checkpoint) -> Transformer:
    """The transformer with the text path's modules under their names; no weight is read."""
    checkpoint = replace(checkpoint, header_only=True)
    model = Transformer(checkpoint.section("transformer", TransformerConfig))
    extractor = load_own_feature_extractor(checkpoint, dtype=mx.float32)
    for name, module in named(extractor, load_connectors(checkpoint, dtype=mx.float32)).items():
        model[name] = module
    return model
