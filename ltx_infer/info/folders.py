"""What a folder is: a model's, a training run's, a data set's, a text encoder's."""

import json
from pathlib import Path
from typing import Any

from ltx_infer.hub.names import checkpoints, gemma_folders, upscalers
from ltx_infer.hub.place import folder_place, shown_size
from ltx_infer.info.weights import about_checkpoint
from ltx_infer.pipeline.find_lora import CHECKPOINTS, step_of
from ltx_models.checkpoint import PREFIXES, open_checkpoint
from ltx_models.config import read_object
from ltx_models.converted.layout import CONFIG, MODEL_TYPE
from ltx_models.errors import UserError
from ltx_models.text_encoder.answer import can_see
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.weights import TensorFile

RUN, MANIFEST, METRICS = "training_config.yaml", "manifest.jsonl", "metrics.jsonl"
KINDS = (
    "latents",
    "conditions",
    "audio_latents",
    "reference_latents",
    "reference_audio_latents",
    "video_masks",
    "audio_masks",
)
SHOWN = 5


def about_folder(path: Path) -> dict[str, Any]:
    """What is in a folder. Raises UserError for one that is nothing we know."""
    if (path / RUN).is_file():
        return _run(path)
    if (path / MANIFEST).is_file() or (path / KINDS[0]).is_dir():
        return _data_set(path)
    config = read_object(path / CONFIG) if (path / CONFIG).is_file() else {}
    if str(config.get("model_type")).startswith("gemma3"):
        return _text_encoder(path)
    names = folder_place(path).names
    if config.get("model_type") == MODEL_TYPE or (path / "transformer").is_dir():
        said = {"variant": config["variant"]} if config.get("variant") else {}
        return {**about_checkpoint(open_checkpoint(path)), **said, **_companions(names)}
    found = [name for name in checkpoints(names) if _holds_a_network(path / name)]
    if found:
        return {"what": "folder of a model", "checkpoints": found, **_companions(names)}
    raise UserError(
        f"--info {path}: no model, training run, data set or text encoder of LTX-2 in this folder"
    )


def _holds_a_network(path: Path) -> bool:
    return any(key.startswith(PREFIXES) for key in TensorFile(path).infos)


def _companions(names: list[str]) -> dict[str, Any]:
    return {"upscalers": upscalers(names), "text encoders": gemma_folders(names)}


def _run(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    config = yaml.safe_load((path / RUN).read_text(encoding="utf-8")) or {}
    steps = [(step_of(p), p) for p in (path / CHECKPOINTS).glob("*.safetensors")]
    adapters = [f"step {step}" for step, _ in sorted((s, p) for s, p in steps if s is not None)]
    return {
        "what": "training run; --lora takes it, for its last step",
        "base": config.get("model", {}).get("model_path"),
        "trains": config.get("model", {}).get("training_mode"),
        "data": config.get("data", {}).get("preprocessed_data_root"),
        "trigger": config.get("data", {}).get("trigger"),
        "lora": config.get("lora"),
        "steps": config.get("optimization", {}).get("steps"),
        "adapters": adapters,
        "last of its log": _last_line(path / METRICS),
    }


def _last_line(path: Path) -> dict[str, Any]:
    """The last line of a log in JSON."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    except (ValueError, IndexError):  # a run that was killed as it wrote
        return {}
    return found if isinstance(found, dict) else {}


def _data_set(path: Path) -> dict[str, Any]:
    counts = {kind: len(list((path / kind).rglob("*.safetensors"))) for kind in KINDS}
    manifest = path / MANIFEST
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    return {
        "what": "data set, by ltx-precompute",
        "samples": {kind: count for kind, count in counts.items() if count},
        "first clips": [json.loads(line).get("clip") for line in lines[:SHOWN]],
    }


def _text_encoder(path: Path) -> dict[str, Any]:
    config = read_gemma_config(path)
    files = sorted(path.glob("model*.safetensors"))
    quantised = read_object(path / CONFIG).get("quantization")
    return {
        "what": "text encoder, a Gemma 3",
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "sees pictures": can_see(path),
        "quantised": quantised,
        "bytes": shown_size(sum(file.stat().st_size for file in files)),
    }
