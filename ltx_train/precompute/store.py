"""Samples on disk: which are still what is asked for, who made them, and the list of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import STATISTICS
from ltx_models.errors import UserError
from ltx_models.files import write_text
from ltx_models.identity import weights_hash
from ltx_models.weights import TensorFile, WeightsError
from ltx_train.data.layout import ENDING, KINDS, LATENTS, MANIFEST, Kind, sample_path
from ltx_train.inputs.item import Item, stem_of

HASH, NOTES = "source_sha256", "notes"
BETWEEN = "; "  # notes


class Line(TypedDict):
    """What the manifest says of a clip."""

    clip: str
    caption: str  # as it is encoded
    trigger: str | None
    bucket: str
    fps: float
    has_sound: bool
    files: dict[str, str]  # by kind
    notes: list[str]


class Maker(NamedTuple):
    """What makes a file: the model's version, and the hash of those of its weights."""

    version: str
    hash: str

    @property
    def about(self) -> dict[str, str]:
        """As metadata."""
        return {"model_version": self.version, "model_hash": self.hash}


def encoder_of(checkpoint: Checkpoint, vae: Literal["vae", "audio_vae"]) -> Maker:
    """The encoder of a VAE, with the statistics that its latents are normalised by."""
    return made_by(checkpoint, f"{vae}.encoder.", f"{vae}.{STATISTICS}")


def made_by(checkpoint: Checkpoint, *prefixes: str) -> Maker:
    """Those weights of a checkpoint whose keys begin so."""
    version = ".".join(map(str, checkpoint.version))
    return Maker(version, weights_hash([checkpoint.file], prefixes=prefixes))


def stored_metadata(path: Path) -> dict[str, str] | None:
    """What a file says of itself; None if it is not there or not whole."""
    try:
        return TensorFile(path).metadata
    except WeightsError:
        return None


def known_hash(path: Path, about: Mapping[str, str]) -> str:
    """The hash of the source of a file that is otherwise what is asked for, else nothing."""
    stored = stored_metadata(path) or {}
    return stored.get(HASH, "") if about.items() <= stored.items() else ""


def check_maker(paths: Iterable[Path], maker: Maker) -> None:
    """Raise UserError for the first of the files that another model made."""
    for path in paths:
        stored = stored_metadata(path)
        if stored is None or maker.about.items() <= stored.items():
            continue
        version, weights = (stored.get(key, "unknown") for key in maker.about)
        raise UserError(
            f"{path}: made with model version {version}, weights {weights}; "
            f"asked for are version {maker.version}, weights {maker.hash}.\n"
            "--overwrite makes it anew; another --output-dir leaves it as it is"
        )


def remove_samples(folder: Path, names: Iterable[str]) -> None:
    """Remove all files of clips: half a sample would stop a training, or spoil it."""
    for name in names:
        for kind in KINDS:
            sample_path(folder, kind, stem_of(name)).unlink(missing_ok=True)


def strangers(folder: Path, stems: Iterable[Path | str]) -> list[str]:
    """Names of samples in a folder that are not those."""
    known = {str(stem) for stem in stems}
    found: set[str] = set()
    for kind in KINDS:
        root = folder / kind
        names = (path.relative_to(root) for path in root.rglob(f"*{ENDING}"))
        found |= {str(name.with_suffix("")) for name in names if not name.name.startswith(".")}
    return sorted(found - known)


def write_manifest(folder: Path, lines: Iterable[Line]) -> None:
    """One line of JSON a sample."""
    text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    write_text(folder / MANIFEST, text)


def manifest_line(folder: Path, item: Item, *, notes: Sequence[str]) -> Line:
    """What the manifest says of one sample; ``notes`` are those that are in none of its files."""
    abouts = _metadata(folder, item.stem)
    return {
        "clip": item.name,
        "caption": abouts["conditions"]["caption"],
        "trigger": abouts["conditions"]["trigger"] or None,
        "bucket": abouts[LATENTS]["bucket"],
        "fps": float(abouts[LATENTS]["fps"]),
        "has_sound": "audio_latents" in abouts,
        "files": {kind: sample_path(Path(), kind, item.stem).as_posix() for kind in abouts},
        "notes": list(dict.fromkeys([*notes, *stored_notes(folder, item.stem)])),
    }


def stored_notes(folder: Path, stem: Path | str) -> list[str]:
    """The notes in the files of a sample: what was found when their sources were read."""
    abouts = _metadata(folder, stem).values()
    return [note for about in abouts for note in about.get(NOTES, "").split(BETWEEN) if note]


def _metadata(folder: Path, stem: Path | str) -> dict[Kind, dict[str, str]]:
    """What the files of a sample say of themselves, of each kind that there is."""
    found: dict[Kind, dict[str, str] | None] = {
        kind: stored_metadata(sample_path(folder, kind, stem)) for kind in KINDS
    }
    return {kind: about for kind, about in found.items() if about is not None}
