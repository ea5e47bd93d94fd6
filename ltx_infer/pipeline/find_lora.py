"""Which LoRA file a user means by a path, and the distilled LoRA of a model folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from ltx_models.errors import UserError
from ltx_models.lora.files import is_distilled

CHECKPOINTS = "checkpoints"  # of a training run's folder
STEP = re.compile(r"lora_weights_step_(\d+)")
MODEL_STEP = re.compile(r"model_weights_step_(\d+)")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(::.+)?")
VERSION = re.compile(r"-(\d+(?:\.\d+)+)$")  # at the end of a file's stem
SHOWN = 8  # files in a message


def find_lora(text: str, *, flag: str = "--lora") -> Path:
    """A file; a folder with one in it; or a training run's folder, then its newest step.

    The newest is the last by its number, whichever step had the lowest loss. ``step_of`` says of
    the result which step that is. Raises UserError where there is none, or more than one to choose
    from.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise _not_there(text, flag)
    found = sorted(path.glob("*.safetensors"))
    steps = [*found, *sorted((path / CHECKPOINTS).glob("*.safetensors"))]
    steps = [file for file in steps if step_of(file) is not None]
    if steps and all(file in steps for file in found):
        return max(steps, key=lambda file: step_of(file) or 0)
    models = [(MODEL_STEP.fullmatch(file.stem), file) for file in (path / CHECKPOINTS).glob("*")]
    if models := [(int(match[1]), file) for match, file in models if match]:
        raise UserError(
            f"{flag} {text}: this run trained all weights, and left no adapter.\n"
            f"Give its model instead: --model {max(models)[1]}"
        )
    if not found:
        raise UserError(f"{flag} {text}: no .safetensors in this folder")
    if len(found) > 1:
        raise UserError(f"{flag} {text}: name one of its files:\n{_names(found)}")
    return found[0]


def step_of(path: Path) -> int | None:
    """The training step in the name of an adapter that ltx-train saved; None for another file."""
    match = STEP.fullmatch(path.stem)
    return int(match[1]) if match else None


def distilled_lora_in(folder: Path) -> Path:
    """The distilled LoRA of a model folder, the newest version of it; also from its lora/.

    Raises UserError where there is none, or where several differ in more than the version.
    """
    files = [*folder.glob("*lora*.safetensors"), *folder.glob("lora/**/*.safetensors")]
    found = sorted(file for file in files if is_distilled(file))
    if not found:
        raise UserError(
            f"{folder}: no distilled LoRA (*distilled*lora*.safetensors) beside the checkpoint.\n"
            "Put it there, or name one with --distilled-lora FILE"
        )
    if len({VERSION.sub("", file.stem) for file in found}) > 1:
        raise UserError(
            f"{folder}: name one of its distilled LoRAs with --distilled-lora:\n{_names(found)}"
        )
    return max(found, key=_version)


def _version(path: Path) -> tuple[int, ...]:
    match = VERSION.search(path.stem)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _not_there(text: str, flag: str) -> UserError:
    if REPOSITORY.fullmatch(text) and ("::" in text or not text.endswith(".safetensors")):
        return UserError(
            f"{flag} {text}: no such file or folder, and LoRAs are not fetched from the hub yet.\n"
            "Download it and give the file's path"
        )
    return UserError(
        f"{flag} {text}: no such file or folder. It takes a .safetensors file, a folder with one "
        "in it, or the folder of a training run"
    )


def _names(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:SHOWN])
    return names if len(files) <= SHOWN else f"{names} and {len(files) - SHOWN} more"
