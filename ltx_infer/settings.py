"""The settings of a clip as JSON in its comment, and a request from them again.

What was asked for is kept apart from the defaults of the time, so that a later version with other
defaults still repeats the clip, and so that flags which only go with others stay unasked.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltx_infer.config import DistilledFlag, GenerateConfig, LoRAFlag
from ltx_infer.media.container import read_comment
from ltx_models.errors import UserError, printable

TOOL = "ltx-mlx"
NOT_KEPT = {"output_path", "output_audio", "save_frames", "preview", "skip_vae", "force"}
NOT_HASHED = NOT_KEPT | {"checkpoint_path"}  # large, and the clip says which weights it has
OF_PROMPTS = ("prompt", "enhanced_prompt", "embedding")  # a new one takes the place of all
CHOSEN = "chosen"  # in ``made_with``: fields that the memory of the machine decided
# Fields that leave the memory of a run as it is.
AS_LARGE = {*NOT_KEPT, "prompt", "negative_prompt", "seed", "embedding", "enhance_prompt"}
DIGITS = 16  # hexadecimal, of a file's hash
CHUNK = 1 << 20


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    hash: str
    chosen: str | None = None


class _MadeWith(BaseModel):
    model_config = ConfigDict(extra="allow")

    checkpoint: _Model | None = None
    text_encoder: _Model | None = None
    upscaler: _Model | None = None
    loras: list[_Model] | None = None
    chosen: dict[str, Any] = Field(default_factory=dict)


class _Comment(BaseModel):
    """A comment is anybody's text: of its shape nothing is taken for granted."""

    version: str = Field(alias=TOOL)
    settings: dict[str, Any]
    defaults: dict[str, Any]
    files: dict[str, str]
    ending: str = Field(pattern=r"^\.\w{1,5}$")  # no path
    models: _MadeWith
    upscaled: list[dict[str, Any]] = Field(default_factory=list)


class Settings(NamedTuple):
    """What a clip's comment says."""

    asked: dict[str, Any]  # fields of GenerateConfig, by name
    defaults: dict[str, Any]  # the others, as they were
    files: dict[str, str]  # hashes of what the clip was given, by path
    ending: str  # of its name, when it was written
    version: str  # of this program
    made_with: dict[str, Any]  # what ``made_with`` told of the models
    upscaled: Sequence[Mapping[str, Any]] = ()  # what ltx-upscale has done to it since


def comment_of(config: GenerateConfig, made_with: Mapping[str, Any]) -> str:
    """The comment of a clip; ``made_with`` says which models were found for it."""
    every = config.model_dump(mode="json", exclude=NOT_KEPT)
    asked = {name: value for name, value in every.items() if name in config.model_fields_set}
    return json.dumps(
        {
            TOOL: version(TOOL),
            "settings": asked,
            "defaults": {name: value for name, value in every.items() if name not in asked},
            "files": {str(path): file_hash(path) for path in sorted(set(_files(config)))},
            "ending": config.output_path.suffix,
            "models": dict(made_with),
        },
        ensure_ascii=False,
    )


def read_settings(path: Path) -> Settings:
    """What a clip says of itself. Raises UserError for one that this program did not make."""
    found = settings_in(read_comment(path))
    if found is None:
        raise UserError(
            f"{path}: its comment holds no settings of {TOOL}; a tool that copied the clip may "
            "have left it out"
        )
    return found


def settings_in(comment: str | None) -> Settings | None:
    """The settings that a comment is; None for another."""
    try:
        said = _Comment.model_validate_json(comment or "")
    except ValidationError:
        return None
    made_with = said.models.model_dump(exclude_unset=True)
    return Settings(
        said.settings,
        said.defaults,
        said.files,
        said.ending,
        said.version,
        made_with,
        said.upscaled,
    )


def repeated(
    clip: Path,
    given: Mapping[str, Any],
    *,
    new_prompts: bool = False,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that repeat a clip, with those given in their place; and what made the clip.

    With ``new_prompts`` others take the place of the clip's. ``say`` is told of each file that is
    not what it was. What memory decided then is kept where the run is as large. Raises UserError
    for a clip without settings, and for settings that this version does not have.
    """
    settings = read_settings(clip)
    fields = {**_other_defaults(clip, settings), **settings.asked}
    if new_prompts or not given.keys().isdisjoint(OF_PROMPTS):
        fields = {name: value for name, value in fields.items() if name not in OF_PROMPTS}
    fields |= given
    if given.keys() <= AS_LARGE:
        now = GenerateConfig.model_fields
        chosen: dict[str, Any] = settings.made_with.get(CHOSEN, {})
        fields = {k: v for k, v in chosen.items() if k in now and v != now[k].default} | fields
    encoder = settings.made_with.get("text_encoder", {}).get("chosen")
    needs_encoder = fields.keys().isdisjoint(("embedding", "dummy_embeddings"))
    if encoder is not None and needs_encoder:
        fields.setdefault("text_encoder_repo", encoder)
    for name, digest in settings.files.items():
        if Path(name).is_file() and file_hash(Path(name)) != digest:
            say(f"--from {clip}: {name} is not the file that it was")
    if settings.version != version(TOOL):
        say(f"--from {clip}: made by {TOOL} {settings.version}, this is {version(TOOL)}")
    if settings.upscaled:
        say(f"--from {clip}: it is repeated as it was before ltx-upscale")
    if "output_path" not in given:
        fields["output_path"] = f"output{settings.ending}"
    return fields, settings.made_with


def check_not_itself(clip: Path, output: Path) -> None:
    """Raise UserError if a clip would be replaced by its repetition, which nobody asked for."""
    if output.exists() and output.samefile(clip):
        raise UserError(
            f"--from {clip}: the new clip would take its place; name another file with "
            "--output-path, or this one"
        )


def _other_defaults(clip: Path, settings: Settings) -> dict[str, Any]:
    """Defaults of the clip's time that are others now."""
    now = GenerateConfig.model_fields
    if strange := sorted((settings.asked.keys() | settings.defaults.keys()) - now.keys()):
        raise UserError(
            f"--from {clip}: made by {TOOL} {settings.version}, which had settings that "
            f"{version(TOOL)} does not know: {printable(', '.join(strange))}"
        )
    try:
        current = GenerateConfig.model_validate(settings.asked).model_dump(mode="json")
    except ValidationError as error:
        (first, *_) = error.errors()
        raise UserError(f"--from {clip}: {first['loc'][0]}: {first['msg']}") from None
    return {name: value for name, value in settings.defaults.items() if current[name] != value}


def file_hash(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:DIGITS]


def _files(value: Any) -> Iterator[Path]:
    """The files among the values of a request, to any depth; LoRAs are told with the models."""
    if isinstance(value, Path):
        if value.is_file():
            yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _files(each)
    elif isinstance(value, BaseModel) and not isinstance(value, LoRAFlag | DistilledFlag):
        for name in type(value).model_fields.keys() - NOT_HASHED:
            yield from _files(getattr(value, name))
