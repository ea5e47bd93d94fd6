"""Which files a run uses, and where they are found."""

import json
from dataclasses import dataclass
from pathlib import Path

from ltx_models.errors import UserError
from ltx_models.tiny import tiny_folder

UPSCALER_NAMES = "*spatial-upscaler-x2*.safetensors"
NOT_CHECKPOINTS = ("upscaler", "lora")


@dataclass(frozen=True)
class ModelFiles:
    """What ``--model`` stands for."""

    checkpoint: Path
    folder: Path  # where the checkpoint's companions lie

    def spatial_upscaler(self) -> Path:
        """The newest x2 upscaler beside the checkpoint. Raises UserError if there is none."""
        found = sorted(self.folder.glob(UPSCALER_NAMES))
        if not found:
            raise UserError(
                f"{self.folder}: no spatial upscaler ({UPSCALER_NAMES}) beside the checkpoint.\n"
                "Put it there, or run without the second stage: --one-stage"
            )
        return found[-1]

    def text_encoder(self) -> Path:
        """The Gemma 3 folder in the model's folder. Raises UserError if there is none."""
        found = [
            path.parent for path in sorted(self.folder.glob("*/config.json")) if _is_gemma(path)
        ]
        if not found:
            raise UserError(
                f"{self.folder}: no folder with a Gemma 3 in it beside the checkpoint.\n"
                "Name one with --text-encoder-repo DIR"
            )
        return found[0]


def find_model(name: str, *, variant: str) -> ModelFiles:
    """``tiny``, a monolithic checkpoint, or a folder that holds one of the wanted variant.

    Raises UserError where there is none, or more than one to choose from.
    """
    path = tiny_folder() if name == "tiny" else Path(name).expanduser()
    if path.is_file():
        return ModelFiles(checkpoint=path, folder=path.parent)
    if not path.is_dir():
        raise UserError(
            f"--model {name}: no such file or folder. It takes tiny, a .safetensors checkpoint, "
            "or a folder that holds one"
        )
    return ModelFiles(checkpoint=_checkpoint_in(path, variant), folder=path)


def _checkpoint_in(folder: Path, variant: str) -> Path:
    found = [
        path
        for path in sorted(folder.glob("*.safetensors"))
        if not any(word in path.name for word in NOT_CHECKPOINTS)
    ]
    if not found:
        raise UserError(f"--model {folder}: no checkpoint (.safetensors) in this folder")
    chosen = [path for path in found if variant in path.name] or found
    if len(chosen) > 1:
        names = ", ".join(path.name for path in chosen)
        raise UserError(f"--model {folder}: name one of its checkpoints: {names}")
    return chosen[0]


def _is_gemma(config: Path) -> bool:
    try:
        return str(json.loads(config.read_text()).get("model_type", "")).startswith("gemma3")
    except json.JSONDecodeError as error:
        raise UserError(f"{config}: not JSON: {error}") from None
