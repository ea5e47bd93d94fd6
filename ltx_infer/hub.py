"""Which files a run uses, and where they are found."""

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ltx_models.config import ConfigError, read_object
from ltx_models.errors import UserError, reason
from ltx_models.tiny import tiny_folder

Variant = Literal["dev", "distilled"]
UPSCALERS = "*spatial-upscaler-x*.safetensors"
NOT_CHECKPOINTS = ("upscaler", "upsampler", "lora")
# As x2-1.1: a scale, and perhaps a version.
RELEASE = re.compile(r"x(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)*))?$")
GENERATION = re.compile(r"ltx-(\d+(?:\.\d+)*)-")
VERSION = re.compile(r"-(\d+(?:\.\d+)+)$")


@dataclass(frozen=True)
class ModelFiles:
    """What ``--model`` stands for; what is found beside it is chosen when it is asked for."""

    checkpoint: Path
    folder: Path  # where the checkpoint's companions lie
    notes: list[str] = field(default_factory=list)  # one line for each choice made so far

    @property
    def variant(self) -> Variant | None:
        """What the checkpoint's name says; None if nothing, as with tiny, which serves as both."""
        return variant_of(self.checkpoint)

    def spatial_upscaler(self, name: str | None = None) -> Path:
        """An upscaler by its release (``x2-1.0``), a file's name in the folder, or a path.

        Without a name the newest x2; of several generations that of the checkpoint. Raises
        UserError if there is none.
        """
        found = sorted(self.folder.glob(UPSCALERS))
        release = RELEASE.match(name or "x2")
        if release is None:
            return self._named_upscaler(name or "", found)
        scale, version = release.groups()
        fitting = [
            path
            for path in found
            if _release(path)[0] == scale and version in (None, _release(path)[1])
        ]
        own = [path for path in fitting if _generation(path) == _generation(self.checkpoint)]
        fitting = own or fitting
        if not fitting:
            wanted = f"{scale}-{version}" if version else scale
            raise UserError(
                f"{self.folder}: no spatial upscaler x{wanted} beside the checkpoint, "
                f"{_there_are(found)}.\n"
                "Put it there, name another with --spatial-upscaler, or run --one-stage."
            )
        newest = max(fitting, key=lambda path: (_numbers(_release(path)[1]), path.name))
        self.notes.extend(_choice("spatial upscaler", newest, found))
        return newest

    def _named_upscaler(self, name: str, found: Sequence[Path]) -> Path:
        given = Path(name).expanduser()
        for path in (given, self.folder / given):
            if path.is_file():
                return path
        raise UserError(
            f"--spatial-upscaler {name}: no such file, neither here nor in {self.folder}: "
            f"{_there_are(found)}.\nIt takes x2-1.0, x2-1.1, x1.5-1.0 or a file."
        )

    def text_encoder(self) -> Path:
        """The Gemma 3 folder in the model's folder, the first by name. UserError if none."""
        found, passed_over = [], []
        for config in sorted(self.folder.glob("*/config.json")):
            try:
                kind = str(read_object(config).get("model_type"))
            except ConfigError as error:
                passed_over.append(str(error).splitlines()[0])
                continue
            if kind.startswith("gemma3"):
                found.append(config.parent)
            else:
                passed_over.append(f"{config}: model_type {kind}")
        if not found:
            more = f", and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
            passed = f"\nPassed over: {passed_over[0]}{more}" if passed_over else ""
            raise UserError(
                f"{self.folder}: no folder with a Gemma 3 in it beside the checkpoint.{passed}\n"
                "Name one with --text-encoder-repo DIR"
            )
        self.notes.extend(_choice("text encoder", found[0], found))
        return found[0]


def find_model(name: str, *, variant: Variant, flag: str = "--model") -> ModelFiles:
    """``tiny``, a monolithic checkpoint, or a folder that holds one, best of the wanted variant.

    Whether a checkpoint of the other variant will do is for the caller to say. Raises UserError,
    which says ``flag`` for where the name came from, where there is none, or more than one to
    choose from.
    """
    path = tiny_folder() if name == "tiny" else Path(name).expanduser()
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise UserError(
            f"{flag} {name}: {reason(error)}. It takes tiny, a .safetensors checkpoint, "
            "or a folder that holds one"
        ) from None
    return _checkpoint_in(path, variant, flag) if is_folder else ModelFiles(path, path.parent)


def variant_of(path: Path) -> Variant | None:
    """What a checkpoint's file name says that it is."""
    return "distilled" if _says(path, "distilled") else "dev" if _says(path, "dev") else None


def _checkpoint_in(folder: Path, variant: Variant, flag: str) -> ModelFiles:
    there = sorted(folder.glob("*.safetensors"))
    found = [path for path in there if not any(_says(path, word) for word in NOT_CHECKPOINTS)]
    if not found:
        passed = f", only {_listed(there)}" if there else ""
        raise UserError(f"{flag} {folder}: no checkpoint (.safetensors) in this folder{passed}")
    fitting = [path for path in found if variant_of(path) == variant] or found
    if len({VERSION.sub("", path.stem) for path in fitting}) > 1:
        raise UserError(f"{flag} {folder}: name one of its checkpoints: {_listed(fitting)}")
    newest = max(fitting, key=lambda path: _numbers(_version(path)))
    return ModelFiles(newest, folder, _choice("checkpoint", newest, found))


def _choice(what: str, chosen: Path, found: Sequence[Path]) -> list[str]:
    """A line that says which one was taken, if there were several."""
    others = [path for path in found if path != chosen]
    return [f"{what}: {chosen.name}, not {_listed(others)}"] if others else []


def _says(path: Path, word: str) -> bool:
    """Whether a word is one of a file's name: ``lora`` is in my-lora-64, not in flora."""
    return word in re.split(r"[-_. ]", path.stem)


def _release(path: Path) -> tuple[str, str | None]:
    match = RELEASE.search(path.stem)
    return (match[1], match[2]) if match else ("", None)


def _generation(path: Path) -> str | None:
    match = GENERATION.match(path.name)
    return match[1] if match else None


def _version(path: Path) -> str | None:
    match = VERSION.search(path.stem)
    return match[1] if match else None


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()


def _there_are(found: Sequence[Path]) -> str:
    return f"only {_listed(found)}" if found else "nor any other"


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
