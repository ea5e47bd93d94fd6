"""Which of a model's files is meant, by their names alone: in a folder as in a repository.

A name is a path within its folder or repository, with "/" between its parts.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    DIFFUSERS,
    LORAS,
    TRANSFORMER_FOLDER,
    UPSCALERS,
)
from ltx_models.errors import UserError

Variant = Literal["dev", "distilled"]
WEIGHTS = ".safetensors"
NOT_CHECKPOINTS = ("upscaler", "upsampler", "lora")
# What LTX-2's files of fewer bits are called. They are taken where there is nothing else.
SMALLER = ("fp8", "fp4", "nvfp4")
UPSCALER = "spatial-upscaler-x"
TEMPORAL_UPSCALER = "temporal-upscaler-x2"
# As x2-1.1: a scale, and perhaps a version.
RELEASE = re.compile(r"x(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)*))?$")
GENERATION = re.compile(r"ltx-(\d+(?:\.\d+)*)-")
VERSION = re.compile(r"-(\d+(?:\.\d+)+)$")
GEMMA_FILES = (CONFIG, "tokenizer.json")  # beside model*.safetensors
SHOWN = 8  # files in a message
INSIDE = "::"  # between a folder or a repository and one of its files
CONVERTED = ""  # the name of a checkpoint that is the whole folder


def choose_checkpoint(names: Sequence[str], variant: Variant, *, at: str) -> str:
    """The checkpoint of a model's files: best of the wanted variant, newest version.

    CONVERTED where the files are those of a converted folder. Raises UserError where there is none,
    or more than one to choose from; ``at`` says of what.
    """
    found = checkpoints(names)
    if not found and is_converted(names):
        return CONVERTED
    if not found:
        there = [name for name in names if name.endswith(WEIGHTS) and "/" not in name]
        passed = f", only {some(there)}" if there else ""
        if CONFIG in names and DIFFUSERS not in names:
            passed += ". If it is a converted one, ltx-convert was stopped: run it again"
        raise UserError(f"{at}: no checkpoint ({WEIGHTS}) in this folder{passed}")
    fitting = [name for name in found if variant_of(name) == variant] or found
    fitting = [name for name in fitting if not _says(name, *SMALLER)] or fitting
    if len({VERSION.sub("", _stem(name)) for name in fitting}) > 1:
        raise UserError(
            f"{at}: name one of its checkpoints: {some(fitting)}\nAs {at}{INSIDE}{fitting[0]}"
        )
    return max(fitting, key=version_of)


def checkpoints(names: Iterable[str]) -> list[str]:
    """What may be whole checkpoints: weights at the top that are no upscaler and no LoRA."""
    return [
        name
        for name in names
        if name.endswith(WEIGHTS) and "/" not in name and not _says(name, *NOT_CHECKPOINTS)
    ]


def is_converted(names: Iterable[str]) -> bool:
    """Whether the files are a converted folder's, told from its transformer's configuration."""
    there = set(names)
    return f"{TRANSFORMER_FOLDER}/{CONFIG}" in there and DIFFUSERS not in there


def component_files(names: Iterable[str]) -> list[str]:
    """All that a converted folder's networks are read from."""
    folders = tuple(f"{each.folder}/" for each in COMPONENTS)
    return [
        name
        for name in names
        if name == CONFIG or (name.startswith(folders) and name.endswith((".json", WEIGHTS)))
    ]


def variant_of(name: str | PurePosixPath) -> Variant | None:
    """What a checkpoint's file name says that it is."""
    if _says(str(name), "distilled"):
        return "distilled"
    return "dev" if _says(str(name), "dev") else None


def upscalers(names: Iterable[str]) -> list[str]:
    """The spatial upscalers, at the top or in a converted folder's own place for them."""
    return [
        name
        for name in names
        if name.endswith(WEIGHTS) and UPSCALER in name and _folder(name) in ("", UPSCALERS)
    ]


def choose_upscaler(
    names: Sequence[str], release: str | None, *, checkpoint: str, at: str
) -> str | None:
    """The newest of a release (``x2`` without one, ``x2-1.0``); None where ``release`` is none.

    Of several generations that of the checkpoint. Raises UserError where nothing fits.
    """
    asked = RELEASE.match(release or "x2")
    if asked is None:
        return None
    scale, version = asked.groups()
    found = upscalers(names)
    fitting = [
        name
        for name in found
        if _release(name)[0] == scale and version in (None, _release(name)[1])
    ]
    fitting = [n for n in fitting if generation(n) == generation(checkpoint)] or fitting
    if not fitting:
        wanted = f"{scale}-{version}" if version else scale
        raise UserError(
            f"{at}: no spatial upscaler x{wanted} beside the checkpoint, {there_are(found)}.\n"
            "Put it there, or name another with --spatial-upscaler; --one-stage needs none."
        )
    return max(fitting, key=lambda name: (_numbers(_release(name)[1]), name))


def choose_temporal_upscaler(names: Iterable[str], *, checkpoint: str, at: str) -> str:
    """The newest upscaler of twice the frames; of several generations that of the checkpoint.

    Raises UserError where there is none; ``at`` says of what.
    """
    found = [
        name
        for name in names
        if name.endswith(WEIGHTS) and TEMPORAL_UPSCALER in name and _folder(name) in ("", UPSCALERS)
    ]
    if not found:
        raise UserError(
            f"{at}: no temporal upscaler (*{TEMPORAL_UPSCALER}*{WEIGHTS}) beside the checkpoint.\n"
            "Put it there, or name a model that has one"
        )
    found = [name for name in found if generation(name) == generation(checkpoint)] or found
    return max(found, key=lambda name: (_numbers(_release(name)[1]), name))


def choose_distilled_lora(names: Iterable[str], *, at: str) -> str:
    """The distilled LoRA of a model's files, the newest version of it; also from its lora/.

    Raises UserError where there is none, or where several differ in more than the version.
    """
    found = distilled_loras(names)
    if not found:
        raise UserError(
            f"{at}: no distilled LoRA (*distilled*lora*.safetensors) beside the checkpoint.\n"
            "Put it there, or name one with --distilled-lora FILE"
        )
    if len({VERSION.sub("", _stem(name)) for name in found}) > 1:
        raise UserError(
            f"{at}: name one of its distilled LoRAs with --distilled-lora:\n" + some(found)
        )
    return max(found, key=version_of)


def distilled_loras(names: Iterable[str]) -> list[str]:
    """The distilled LoRAs of a model's files, at the top or in a converted folder's lora/."""
    return sorted(
        name
        for name in names
        if name.endswith(WEIGHTS)
        and is_distilled(name)
        and (name.startswith(f"{LORAS}/") or (_folder(name) == "" and "lora" in name))
    )


def is_distilled(name: str) -> bool:
    """Whether a file of that name is a distilled LoRA, as ``ltx_models.lora.files`` tells it."""
    return "distilled" in PurePosixPath(name).name.lower()


def gemma_folders(names: Iterable[str]) -> list[str]:
    """Folders with all that a text encoder needs: which model it is, their config.json says."""
    there = set(names)
    folders = sorted({_folder(name) for name in there if name.endswith(f"/{CONFIG}")})
    return [folder for folder in folders if gemma_files(folder, there)]


def gemma_files(folder: str, names: Iterable[str]) -> list[str]:
    """What a text encoder is read from in a folder, "" for the top; empty where a file lacks."""
    inside = {PurePosixPath(name).name: name for name in names if _folder(name) == folder}
    weights = [each for each in inside if each.startswith("model") and each.endswith(WEIGHTS)]
    if not weights or any(each not in inside for each in GEMMA_FILES):
        return []
    wanted = [each for each in inside if each.endswith(".json") or each in weights]
    return sorted(inside[each] for each in wanted)


def generation(name: str) -> str | None:
    """The generation in a released file's name: 2, 2.3."""
    match = GENERATION.match(PurePosixPath(name).name)
    return match[1] if match else None


def version_of(name: str) -> tuple[int, ...]:
    """The version at the end of a file's name, which is the higher the newer; () without one."""
    match = VERSION.search(_stem(name))
    return _numbers(match[1]) if match else ()


def choice(what: str, chosen: str, found: Sequence[str]) -> list[str]:
    """A line that says which one was taken, if there were several."""
    others = [name for name in found if name != chosen]
    return [f"{what}: {PurePosixPath(chosen).name}, not {listed(others)}"] if others else []


def there_are(found: Sequence[str]) -> str:
    """What there is instead of what was looked for."""
    return f"only {listed(found)}" if found else "nor any other"


def listed(names: Sequence[str]) -> str:
    """Names without their folders."""
    return ", ".join(PurePosixPath(name).name for name in names)


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _says(name: str, *words: str) -> bool:
    """Whether a word is one of a file's name: ``lora`` is in my-lora-64, not in flora."""
    return not set(words).isdisjoint(re.split(r"[-_. ]", _stem(name)))


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(WEIGHTS)  # of LTX-2.3-dev, .3-dev is no suffix


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _release(name: str) -> tuple[str, str | None]:
    match = RELEASE.search(_stem(name))
    return (match[1], match[2]) if match else ("", None)


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()
