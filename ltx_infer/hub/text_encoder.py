"""Which Gemma 3 reads the prompts: one that is named, the model's own, or one for this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_infer.hub.fetch import Say, fetch, to_stderr
from ltx_infer.hub.names import choice, gemma_files, gemma_folders, some
from ltx_infer.hub.place import (
    Place,
    Wanted,
    folder_place,
    is_repository,
    repository_place,
    shown_size,
)
from ltx_models.config import ConfigError, read_object
from ltx_models.converted.layout import CONFIG
from ltx_models.device import machine_memory
from ltx_models.errors import UserError

DEFAULT = "mlx-community/gemma-3-12b-it-{}"
# From how many bytes that a run may take: the encoder is in memory alone, before the transformer,
# which sets what else the machine has room for.
KINDS = ((80 * 10**9, "bf16"), (40 * 10**9, "8bit"), (0, "4bit"))
FLAG = "--text-encoder-repo"


class TextEncoder(NamedTuple):
    """A Gemma's files, not fetched yet."""

    wanted: Wanted
    folder: Path
    notes: Sequence[str] = ()
    by_memory: bool = False  # this machine's memory chose it

    def path(self, *, say: Say = to_stderr) -> Path:
        """Its folder, with all of the files in it."""
        fetch([self.wanted], say=say)
        return self.folder


def find_text_encoder(named: str | Path | None, model: Place, *, flag: str = FLAG) -> TextEncoder:
    """The one that is named: a folder or a repository; else the model's; else this machine's.

    Raises UserError where there is none, and as ``repository_place``.
    """
    if named is None:
        found, passed_over = _in_model(model)
        if not found:
            return _of_machine(model, passed_over)
        wanted = Wanted(model, tuple(gemma_files(found[0], model.names)), flag)
        return TextEncoder(wanted, model.folder / found[0], choice("text encoder", found[0], found))
    folder = Path(named).expanduser()
    if folder.exists() or not is_repository(str(named)):
        return TextEncoder(Wanted(folder_place(folder), (), flag), folder)
    return _of_repository(str(named), flag=flag)


def default_repository(memory: int) -> str:
    """The Gemma for a machine on which a run may take so many bytes."""
    return DEFAULT.format(next(kind for least, kind in KINDS if memory >= least))


def _of_repository(name: str, *, flag: str) -> TextEncoder:
    place = repository_place(name, flag=flag)
    names = gemma_files("", place.names)
    if not names:
        raise UserError(
            f"{flag} {name}: config.json, tokenizer.json and model*.safetensors of a Gemma 3 are "
            f"wanted; it has {some(place.names)}"
        )
    return TextEncoder(Wanted(place, tuple(names), flag), place.folder)


def _of_machine(model: Place, passed_over: Sequence[str]) -> TextEncoder:
    memory = machine_memory()
    name = default_repository(memory)
    try:
        found = _of_repository(name, flag=FLAG)
    except UserError as error:
        more = f", and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
        passed = f"\nPassed over: {passed_over[0]}{more}" if passed_over else ""
        raise UserError(
            f"{model}: no folder with a Gemma 3 in it beside the checkpoint.{passed}\n"
            f"{str(error).splitlines()[0]}\n"
            f"Name one with {FLAG} DIR"
        ) from None
    return found._replace(
        notes=[f"text encoder: {name}, as a run may take {shown_size(memory)} here"],
        by_memory=True,
    )


def _in_model(model: Place) -> tuple[list[str], list[str]]:
    """Folders of a Gemma 3, and why others are none: what their config.json says, if it is here."""
    if model.commit is not None:
        return gemma_folders(model.names), []
    found, passed_over = [], []
    for name in model.names:
        folder, _, file = name.rpartition("/")
        if file != CONFIG or folder.count("/") or not folder:
            continue
        try:
            kind = str(read_object(model.folder / name).get("model_type"))
        except ConfigError as error:
            passed_over.append(str(error).splitlines()[0])
            continue
        if kind.startswith("gemma3"):
            found.append(folder)
        else:
            passed_over.append(f"{model.folder / name}: model_type {kind}")
    return found, passed_over
