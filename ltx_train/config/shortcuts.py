"""Flags of ltx-train that set keys of the configuration; a name here is a flag's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.errors import UserError, reason

KEYS: Mapping[str, tuple[str, str]] = {
    "pipeline": ("model", "allow_distilled"),
    "allow_unknown_config": ("model", "allow_unknown_config"),
    "training_mode": ("model", "training_mode"),
    "data_root": ("data", "preprocessed_data_root"),
    "steps": ("optimization", "steps"),
    "validation_interval": ("validation", "interval"),
    "validation_prompts": ("validation", "samples"),
    "wandb_enabled": ("wandb", "enabled"),
    "hub_push": ("hub", "push_to_hub"),
    "hub_model_id": ("hub", "hub_model_id"),
}


def put_shortcuts(data: dict[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Put flags over a file's data; gives a line for what of the file had to go.

    Raises UserError for prompts that cannot be read.
    """
    notes = _put_strategy(data, given["strategy"]) if "strategy" in given else []
    for name, value in given.items():
        if name == "strategy":
            continue
        section, key = KEYS[name]
        if data.get(section) is None:
            data[section] = {}
        if not isinstance(data[section], dict):  # the schema says what is wrong with it
            continue
        data[section][key] = _value(name, value)
    return notes


def _value(name: str, value: Any) -> Any:
    if name == "pipeline":
        return value == "distilled"
    if name == "validation_prompts":
        return [{"prompt": prompt} for prompt in _prompts(value)]
    return value


def _prompts(text: str) -> list[str]:
    """``a, b``, or the lines of ``@file``."""
    if not text.startswith("@"):
        found = text.split(",")
    else:
        path = Path(text[1:]).expanduser()
        try:
            found = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"--validation-prompts {path}: {reason(error)}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"--validation-prompts {path}: no UTF-8 text: {error}") from None
    prompts = [prompt.strip() for prompt in found if prompt.strip()]
    if not prompts:
        raise UserError(f"--validation-prompts {text}: there is no prompt in it")
    return prompts


def _put_strategy(data: dict[str, Any], name: str) -> list[str]:
    """Another strategy takes nothing of the one before, nor the samples that were made for it."""
    name = "video_to_video" if name == "ic_lora" else name
    there = data.get("training_strategy")
    if isinstance(there, dict) and there.get("name", "text_to_video") == name:
        return []
    if name == "flexible":
        raise UserError(
            "--strategy flexible: the configuration has another one, and flexible needs to be told "
            "of video and audio there:\ntraining_strategy: {name: flexible, video: {}, audio: {}}"
        )
    data["training_strategy"] = {"name": name}
    validation = data.get("validation")
    if not isinstance(validation, dict) or not validation.pop("samples", None):
        return []
    return [f"--strategy {name}: validation.samples of the configuration are not used"]
