"""A folder of samples, ours or the public trainer's.

``ROOT/KIND/REL.safetensors`` or ``ROOT/KIND/REL.pt``: what has the same REL belongs together
(spec/training.md 1.4). Opening reads headers only, however many files there are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_train.data.geometry import (
    Factors,
    check_audio_references,
    check_masks,
    reference_factors,
)
from ltx_train.data.layout import EMPTY_PROMPT, ENDING
from ltx_train.data.samples import Role, Sample, SampleFile, open_conditions, open_part
from ltx_train.data.torch_files import PT_ENDING

CONDITIONS = "conditions"
PRECOMPUTED = ".precomputed"  # the public trainer's folder in a folder of clips
NAMED = 3  # names in a message
# What makes the files of a role; latents and conditions need no flag.
FLAGS: Mapping[Role, str] = {
    "audio": " --with-audio",
    "video_reference": " --reference-dir REFERENCES",
    "audio_reference": " --reference-audio-dir REFERENCES",
    "video_mask": " --video-mask-dir MASKS",
    "audio_mask": " --audio-mask-dir MASKS",
}


class Dataset(NamedTuple):
    """What a run trains on."""

    samples: list[Sample]  # sorted by name
    factors: Mapping[str, Factors]  # of each folder of references of the picture
    empty_prompt: SampleFile | None  # text features of no caption, where there are any
    notes: list[str]  # what a person should know of it, a line each


def open_dataset(root: Path, folders: Mapping[str, Role]) -> Dataset:
    """Open the samples of a data folder, or of ``.precomputed`` in it.

    ``folders`` are the names below the root of what the run needs beside the conditions, and what
    each is to it; the samples are those of the picture's folder, or without one of the sound's.
    Raises UserError for a folder without samples, for samples that are not whole, and for files
    that do not fit their role or each other.
    """
    root = _data_root(root, folders)
    paths = {name: _find(root, name, FLAGS.get(role, "")) for name, role in folders.items()}
    paths[CONDITIONS] = _find(root, CONDITIONS, "")
    main = _main_folder(folders)
    if not paths[main]:
        raise UserError(f"{root / main}: no sample ({ENDING}, {PT_ENDING}) in it")
    _check_whole(root, paths, folders, main)
    samples = [
        Sample(
            name=name,
            conditions=open_conditions(paths[CONDITIONS][_text_name(name, paths[CONDITIONS])]),
            parts={folder: open_part(paths[folder][name], folders[folder]) for folder in folders},
        )
        for name in sorted(paths[main])
    ]
    for sample in samples:
        check_masks(sample)
        check_audio_references(sample)
    empty = root / EMPTY_PROMPT
    return Dataset(
        samples=samples,
        factors={
            folder: reference_factors(samples, folder)
            for folder, role in folders.items()
            if role == "video_reference"
        },
        empty_prompt=open_conditions(empty) if empty.is_file() else None,
        notes=[*_spare_notes(paths, main), *_header_notes(samples)],
    )


def version_text(checkpoint: Checkpoint) -> str:
    """The model's version as the metadata of a sample have it: "2.3.0"."""
    return ".".join(map(str, checkpoint.version))


def _data_root(root: Path, folders: Mapping[str, Role]) -> Path:
    """The folder that the samples' folders are in: this one, or ``.precomputed`` in it."""
    inside = root / PRECOMPUTED
    if not inside.is_dir():
        return root
    if both := [name for name in folders if (root / name).is_dir()]:
        raise UserError(
            f"data.preprocessed_data_root {root}: {both[0]} is in it and in its {PRECOMPUTED};\n"
            f"name {inside}, or move that away"
        )
    return inside


def _main_folder(folders: Mapping[str, Role]) -> str:
    by_role = {role: name for name, role in folders.items()}
    return by_role.get("video") or by_role["audio"]


def _find(root: Path, name: str, flag: str) -> dict[str, Path]:
    """The files of a folder and its subfolders, by REL."""
    folder = root / name
    if not folder.is_dir():
        raise UserError(
            f"data.preprocessed_data_root {root}: it has no folder {name}.\n"
            f"ltx-precompute --input-dir CLIPS --output-dir {root}{flag} makes it"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (ENDING, PT_ENDING) or path.name.startswith("."):  # unfinished
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(f"{found[stem]} and {path.name}: which of them? Remove one")
        found[stem] = path
    return found


def _text_name(name: str, conditions: Mapping[str, Path]) -> str:
    """REL of the conditions; the public trainer once called latent_1's condition_1."""
    folder, slash, last = name.rpartition("/")
    old = f"{folder}{slash}condition_{last.removeprefix('latent_')}"
    return old if name not in conditions and last.startswith("latent_") else name


def _check_whole(
    root: Path,
    paths: Mapping[str, Mapping[str, Path]],
    folders: Mapping[str, Role],
    main: str,
) -> None:
    """Raise UserError unless every sample has a file in every folder."""
    missing: dict[str, list[str]] = {}
    for folder, found in paths.items():
        names = {
            name: _text_name(name, found) if folder == CONDITIONS else name for name in paths[main]
        }
        if absent := sorted(name for name, there in names.items() if there not in found):
            missing[folder] = absent
    if missing:
        lonely = {name for names in missing.values() for name in names}
        said = "; ".join(
            f"{len(names)} in {f} ({some_names(names)})" for f, names in missing.items()
        )
        flags = "".join(FLAGS.get(folders[f], "") for f in missing if f in folders)
        raise UserError(
            f"{root}: {len(lonely)} of {len(paths[main])} samples are not whole. Missing:\n{said}\n"
            f"ltx-precompute --input-dir CLIPS --output-dir {root}{flags} makes what is missing;\n"
            f"or take these samples out of {main}"
        )


def _spare_notes(paths: Mapping[str, Mapping[str, Path]], main: str) -> list[str]:
    """Of files that belong to no sample."""
    texts = {_text_name(name, paths[CONDITIONS]) for name in paths[main]}
    spare = {
        folder: sorted(found.keys() - (texts if folder == CONDITIONS else paths[main].keys()))
        for folder, found in paths.items()
    }
    return [
        f"{folder}: {len(names)} of {len(paths[folder])} files belong to no sample of {main}, and "
        f"are left out: {some_names(names)}"
        for folder, names in spare.items()
        if names
    ]


def _header_notes(samples: Sequence[Sample]) -> list[str]:
    """Of what files do not say of themselves."""
    clips = [part.file for sample in samples for part in sample.parts.values() if part.fps]
    conditions = [sample.conditions for sample in samples]
    asked = [
        ("fps", clips, "24 is taken"),
        ("caption", conditions, "no trigger can be looked for in them"),
        ("model_version", [f for s in samples for f in s.files], "which made them is not checked"),
    ]
    return [
        f"{silent} of {len(files)} files do not say {name}; {what}"
        for name, files, what in asked
        if (silent := sum(name not in file.metadata for file in files))
    ]


def some_names(names: Sequence[str]) -> str:
    """The first of some names, on one line."""
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
