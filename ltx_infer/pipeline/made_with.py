"""Which models make a clip, and which made one that is repeated, by names and hashes."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from ltx_infer.pipeline.loras import Loras
from ltx_infer.pipeline.models import Models
from ltx_models.identity import weights_hash
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import LoRAFile

WORDS = {
    "checkpoint": "checkpoint",
    "text_encoder": "text encoder",
    "upscaler": "upscaler",
    "temporal_upscaler": "temporal upscaler",
}
NAME, HASH = "name", "hash"


def made_with(
    models: Models,
    loras: Loras,
    *,
    chosen_encoder: str | None = None,
    embedded_prompt: str | None = None,
) -> dict[str, Any]:
    """What a clip says of its models; reads headers, and the first bytes of each tensor.

    ``chosen_encoder`` is the repository of a text encoder that this machine's memory decided;
    ``embedded_prompt`` is what was encoded elsewhere.
    """
    checkpoint = models.checkpoint
    found: dict[str, Any] = {
        "mlx": version("mlx"),
        "device": str(mx.default_device().type).rpartition(".")[2],
        "checkpoint": {
            NAME: checkpoint.path.name,
            HASH: weights_hash([checkpoint.file]),
            "version": ".".join(map(str, checkpoint.version)),
        },
    }
    if models.gemma is not None:
        files = sorted(models.gemma.glob("model*.safetensors"))
        found["text_encoder"] = {NAME: models.gemma.name, HASH: weights_hash(files)}
        if chosen_encoder is not None:
            found["text_encoder"]["chosen"] = chosen_encoder
    if embedded_prompt is not None:
        found["embedded_prompt"] = embedded_prompt
    if models.upscaler is not None:
        found["upscaler"] = _about(models.upscaler)
    if models.temporal_upscaler is not None:
        found["temporal_upscaler"] = _about(models.temporal_upscaler)
    strengths = list(loras.asked)
    if loras.distilled is not None:
        strengths.append((loras.distilled, Strength(loras.distilled_strength or 1.0)))
    found["loras"] = [_about_lora(*pair) for pair in strengths]
    return found


def _about(path: Path) -> dict[str, Any]:
    return {NAME: path.name, HASH: weights_hash([path])}


def _about_lora(file: LoRAFile, strength: Strength) -> dict[str, Any]:
    return {**_about(file.path), "strength": list(strength)}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each model that is not the one it was, and for another MLX or device."""
    found = [
        f"{words}: then {_named(then[key])}, now {_named(now.get(key))}"
        for key, words in WORDS.items()
        if key in then and _hash(then[key]) != _hash(now.get(key))
    ]
    before, after = then.get("loras"), now["loras"]
    if before is not None and [_hash(lora) for lora in before] != [_hash(lora) for lora in after]:
        found.append(f"LoRAs: then {_all_named(before)}, now {_all_named(after)}")
    at = [f"mlx {said.get('mlx')} on {said.get('device')}" for said in (then, now)]
    if "mlx" in then and at[0] != at[1]:
        found.append(f"computed then with {at[0]}, now with {at[1]}: last digits may differ")
    return found


def _hash(model: Mapping[str, Any] | None) -> str | None:
    return None if model is None else model[HASH]


def _named(model: Mapping[str, Any] | None) -> str:
    return "none" if model is None else f"{model[NAME]} ({model[HASH]})"


def _all_named(models: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(map(_named, models)) or "none"
