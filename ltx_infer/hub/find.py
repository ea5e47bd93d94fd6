"""Which files a run uses: those of a folder, or of a repository, which are fetched when asked for.

Choosing among names (``names.py``) is the same for both.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ltx_infer.hub.aliases import ALIASES, warning
from ltx_infer.hub.fetch import Say, take, to_stderr
from ltx_infer.hub.names import (
    CONVERTED,
    INSIDE,
    Variant,
    checkpoints,
    choice,
    choose_checkpoint,
    choose_distilled_lora,
    choose_temporal_upscaler,
    choose_upscaler,
    component_files,
    generation,
    listed,
    there_are,
    upscalers,
    variant_of,
)
from ltx_infer.hub.place import Place, folder_place, is_repository, repository_place
from ltx_infer.hub.text_encoder import find_text_encoder
from ltx_models.config import read_object
from ltx_models.converted.layout import CONFIG
from ltx_models.errors import UserError, reason
from ltx_models.tiny import tiny_folder

# Where the released files of a generation are, for a checkpoint that lies alone.
RELEASED = {"2": "Lightricks/LTX-2", "2.3": "Lightricks/LTX-2.3"}
TAKES = "It takes tiny, a .safetensors checkpoint, a folder that holds one, or user/repo of the hub"


@dataclass(frozen=True)
class ModelFiles:
    """What ``--model`` stands for; what goes with it is chosen, and fetched, when it is asked for.

    ``main`` is the checkpoint's name in its place, CONVERTED for all of the place; ``apart`` is a
    checkpoint that lies elsewhere, as --checkpoint-path says.
    """

    place: Place  # of the checkpoint's companions
    main: str = CONVERTED
    apart: Path | None = None
    flag: str = "--model"
    bits: int | None = None  # of an alias
    notes: list[str] = field(default_factory=list)  # one line for each choice made so far
    say: Say = to_stderr  # told what is fetched

    @property
    def wanted(self) -> list[str]:
        """The names of all that the checkpoint is."""
        if self.apart is not None:
            return []
        return component_files(self.place.names) if self.main == CONVERTED else [self.main]

    @cached_property
    def checkpoint(self) -> Path:
        """The checkpoint: a file, or a converted folder."""
        if self.apart is not None:
            return self.apart
        return self._take(self.wanted) / self.main

    @property
    def is_here(self) -> bool:
        """Whether the checkpoint was given as what lies on this machine."""
        return self.apart is not None or self.place.commit is None

    @property
    def folder(self) -> Path:
        """Where the checkpoint's companions lie."""
        return self.place.folder

    @property
    def variant(self) -> Variant | None:
        """What a converted folder's configuration says, else the checkpoint's name.

        None if nothing, as with tiny, which serves as both.
        """
        if not (self.checkpoint / CONFIG).is_file():  # mlx-video's folders have none either
            return self.named_variant
        said = read_object(self.checkpoint / CONFIG).get("variant")
        return said if said in ("dev", "distilled") else self.named_variant

    @property
    def named_variant(self) -> Variant | None:
        """What the name alone says, of a file, a folder or a repository."""
        return variant_of(self.apart.name if self.apart else self.main or Path(self.place.at).name)

    def spatial_upscaler(self, name: str | None = None) -> Path:
        """An upscaler by its release (``x2-1.0``), a file's name in the folder, or a path.

        Without a name the newest x2; of several generations that of the checkpoint. Raises
        UserError if there is none.
        """
        given = Path(name or "").expanduser()
        if name and given.is_file():
            return given
        found = self.upscaler_name(name)
        return self._take([found]) / found

    def upscaler_name(self, name: str | None) -> str:
        """As ``spatial_upscaler``, of this place's files, and nothing is fetched."""
        names = self.place.names
        checkpoint = (self.apart or Path(self.main)).name
        found = choose_upscaler(names, name, checkpoint=checkpoint, at=str(self.place))
        if found is not None:
            self._note(choice("spatial upscaler", found, upscalers(names)))
            return found
        if name in names:
            return str(name)
        raise UserError(
            f"--spatial-upscaler {name}: no such file, neither here nor in {self.place}: "
            f"{there_are(upscalers(names))}.\nIt takes x2-1.0, x2-1.1, x1.5-1.0 or a file."
        )

    def temporal_upscaler(self) -> Path:
        """The newest upscaler of twice the frames. Raises UserError if there is none."""
        name = self.temporal_upscaler_name()
        return self._take([name]) / name

    def temporal_upscaler_name(self) -> str:
        """As ``temporal_upscaler``, and nothing is fetched."""
        checkpoint = (self.apart or Path(self.main)).name
        return choose_temporal_upscaler(self.place.names, checkpoint=checkpoint, at=str(self.place))

    def distilled_lora(self) -> Path:
        """The newest distilled LoRA that goes with the checkpoint. UserError if there is none."""
        found = choose_distilled_lora(self.place.names, at=str(self.place))
        return self._take([found]) / found

    def text_encoder(self, named: str | Path | None = None, *, flag: str | None = None) -> Path:
        """The folder of a Gemma 3: as ``find_text_encoder``. Raises UserError if there is none."""
        chosen = {} if flag is None else {"flag": flag}
        found = find_text_encoder(named, self.place, **chosen)
        self._note(found.notes)
        return found.path(say=self.say)

    def _take(self, names: Sequence[str]) -> Path:
        return take(self.place, names, flag=self.flag, say=self.say)

    def _note(self, lines: Sequence[str]) -> None:
        self.notes.extend(line for line in lines if line not in self.notes)


def find_model(
    name: str, *, variant: Variant, flag: str = "--model", say: Say = to_stderr
) -> ModelFiles:
    """``tiny``, a monolithic checkpoint, a folder, a repository or an alias of one.

    Of a folder or a repository the best checkpoint of the wanted variant; whether one of the other
    variant will do is for the caller to say. Raises UserError, which says ``flag`` for where the
    name came from, where there is none, or more than one to choose from.
    """
    place, main = find_place(name, flag=flag)
    notes = warning(name)
    if main is None:
        at = f"{flag} {place}"
        main = choose_checkpoint(place.names, variant, at=at)
        notes += choice("checkpoint", main, checkpoints(place.names))
    bits = ALIASES[name].bits if name in ALIASES else None
    return ModelFiles(place, main, flag=flag, bits=bits, notes=notes, say=say)


def with_checkpoint(
    path: Path, model: str | None, *, variant: Variant, say: Say = to_stderr
) -> ModelFiles:
    """A checkpoint that is named by itself (``--checkpoint-path``), and where the rest is.

    With ``model`` that is all of the rest; else what lies beside it if an upscaler does, else the
    repository of its generation. Raises UserError as ``find_model``.
    """
    flag = "--checkpoint-path"
    path = path.expanduser()
    if not path.exists():
        raise UserError(
            f"{flag} {path}: no such file or folder. It takes a .safetensors checkpoint"
        )
    if path.is_dir():
        found = find_model(str(path), variant=variant, flag=flag, say=say)
        path = found.checkpoint
    if model is not None:
        place, _ = find_place(model, flag="--model")
        given = "--model"
    else:
        place, given = _companions(path)
    notes = [f"checkpoint: {path}", f"the rest of the model: {place}, {given}"]
    return ModelFiles(place, apart=path, notes=notes, say=say)


def _companions(path: Path) -> tuple[Place, str]:
    beside = folder_place(path if path.is_dir() else path.parent)
    released = RELEASED.get(generation(path.name) or "")
    if upscalers(beside.names) or released is None:
        return beside, "where the checkpoint is"
    return repository_place(released, flag="--model"), "as nothing lies beside the checkpoint"


def find_place(name: str, *, flag: str) -> tuple[Place, str | None]:
    """Where a model's files are, and the checkpoint's name where the model is that one file.

    Raises UserError for a name that is no file, no folder and no repository.
    """
    whole, _, inside = name.partition(INSIDE)
    if inside and not Path(name).expanduser().exists():
        place, _ = find_place(whole, flag=flag)
        if inside not in checkpoints(place.names):
            there = listed(checkpoints(place.names)) or "none"
            raise UserError(f"{flag} {name}: no such checkpoint in {place}; it has {there}")
        return place, inside
    if name == "tiny":
        return folder_place(tiny_folder()), None
    path = Path(name).expanduser()
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        repository = ALIASES[name].repository if name in ALIASES else name
        if is_repository(repository) and isinstance(error, FileNotFoundError):
            return repository_place(repository, flag=flag), None
        raise UserError(f"{flag} {name}: {reason(error)}. {TAKES}") from None
    return (folder_place(path), None) if is_folder else (folder_place(path.parent), path.name)
