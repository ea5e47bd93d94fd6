"""Which LoRA file a user means by a path or a name on the hub, and the distilled one of a model."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from ltx_infer.hub.fetch import Say, take, to_stderr
from ltx_infer.hub.names import INSIDE, WEIGHTS, choose_distilled_lora, some
from ltx_infer.hub.place import (
    Place,
    Wanted,
    folder_place,
    is_repository,
    repository_place,
    shown_size,
)
from ltx_models.errors import UserError

CHECKPOINTS = "checkpoints"  # of a training run's folder
STEP = re.compile(r"lora_weights_step_(\d+)")
MODEL_STEP = re.compile(r"model_weights_step_(\d+)")


def find_lora(text: str, *, flag: str = "--lora", say: Say = to_stderr) -> Path:
    """The file that ``locate_lora`` finds, fetched if need be."""
    wanted = locate_lora(text, flag=flag)
    (name,) = wanted.names
    return take(wanted.place, [name], flag=flag, say=say) / name


def locate_lora(text: str, *, flag: str = "--lora") -> Wanted:
    """A file; the one file of a folder or of a repository; ``::`` names one of several.

    Of a training run's folder it is the newest step: the last by its number, whichever had the
    lowest loss. ``step_of`` says of the result which step that is. Raises UserError where there is
    none, or more than one to choose from.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return Wanted(Place(str(path.parent), {path.name: None}, path.parent), (path.name,), flag)
    whole, _, inside = text.partition(INSIDE)
    place = _place(whole, flag=flag)
    at = f"{flag} {text}"
    if not inside:
        return Wanted(place, (_choose(place, at=at),), flag)
    if inside not in place.names:
        there = f"it has {some(place.names)}" if place.names else f"it has no {WEIGHTS}"
        raise UserError(f"{at}: no such file in {place}; {there}")
    return Wanted(place, (inside,), flag)


def list_lora_files(text: str, *, flag: str = "--list-lora-files") -> list[str]:
    """A line for each file that could be a LoRA of a repository or a folder, with its size."""
    place = _place(text, flag=flag)
    if not place.names:
        raise UserError(f"{flag} {text}: no {WEIGHTS} there")
    width = max(map(len, place.names))
    return [f"{name:{width}}  {shown_size(place.size(name))}" for name in place.names]


def step_of(path: PurePath) -> int | None:
    """The training step in the name of an adapter that ltx-train saved; None for another file."""
    match = STEP.fullmatch(path.stem)
    return int(match[1]) if match else None


def distilled_lora_in(folder: Path) -> Path:
    """The distilled LoRA of a model folder, the newest version of it; also from its lora/.

    Raises UserError where there is none, or where several differ in more than the version.
    """
    place = folder_place(folder)
    return folder / choose_distilled_lora(place.names, at=str(folder))


def _place(text: str, *, flag: str) -> Place:
    folder = Path(text).expanduser()
    if folder.is_dir():
        paths = sorted(folder.glob(f"*{WEIGHTS}")) + sorted(
            folder.glob(f"{CHECKPOINTS}/*{WEIGHTS}")
        )
        names = [path.relative_to(folder).as_posix() for path in paths]
        return Place(text, dict.fromkeys(names), folder)
    if not is_repository(text):
        raise UserError(
            f"{flag} {text}: no such file or folder. It takes a .safetensors file, a folder with "
            "one in it, the folder of a training run, or user/repo of the hub"
        )
    place = repository_place(text, flag=flag)
    sizes = {name: size for name, size in place.sizes.items() if name.endswith(WEIGHTS)}
    return Place(text, sizes, place.folder, place.commit)


def _choose(place: Place, *, at: str) -> str:
    paths = [PurePosixPath(name) for name in place.names]
    found = [path for path in paths if len(path.parts) == 1]
    steps = {path: step_of(path) or 0 for path in paths if step_of(path) is not None}
    steps = {p: step for p, step in steps.items() if p in found or p.parts[0] == CHECKPOINTS}
    if steps and all(path in steps for path in found):
        return str(max(steps, key=lambda path: steps[path]))
    models = {int(match[1]): path for path in paths if (match := MODEL_STEP.fullmatch(path.stem))}
    if models:
        raise UserError(
            f"{at}: this run trained all weights, and left no adapter.\n"
            f"Give its model instead: --model {place.folder / models[max(models)]}"
        )
    names: Sequence[str] = [str(path) for path in found or paths]
    if not names:
        where = "folder" if place.commit is None else "repository"
        raise UserError(f"{at}: no {WEIGHTS} in this {where}")
    if len(names) > 1:
        raise UserError(f"{at}: name one of its files:\n{some(names)}\nAs {at}{INSIDE}{names[0]}")
    return names[0]
