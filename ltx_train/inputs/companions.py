"""Folders of references and masks: a clip's own is the file of its name, whatever the ending."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ltx_train.inputs.folder import list_files
from ltx_train.inputs.item import CLIP_ENDINGS, MEDIA_ENDINGS, SOUND_ENDINGS, Item, Outcome, stem_of
from ltx_train.precompute.config import PrecomputeConfig

WITH_SOUND = SOUND_ENDINGS + CLIP_ENDINGS


class Companion(NamedTuple):
    """A folder of files that belong to clips: its flag, their field in Item, what they are."""

    flag: str
    field: str
    word: str
    folder: Path
    endings: tuple[str, ...]


def companion_folders(config: PrecomputeConfig) -> list[Companion]:
    """Those that were given."""
    sounds, their_masks = config.reference_audio_dir, config.audio_mask_dir
    all_of_them = (
        ("--reference-dir", "reference_video", "reference", config.reference_dir, MEDIA_ENDINGS),
        ("--reference-audio-dir", "reference_audio", "reference sound", sounds, WITH_SOUND),
        ("--video-mask-dir", "video_mask", "mask", config.video_mask_dir, MEDIA_ENDINGS),
        ("--audio-mask-dir", "audio_mask", "sound mask", their_masks, WITH_SOUND),
    )
    return [
        Companion(flag, field, word, folder, endings)
        for flag, field, word, folder, endings in all_of_them
        if folder is not None
    ]


def with_companions(
    items: Sequence[Item], companion: Companion, outcomes: list[Outcome]
) -> list[Item]:
    """The items that have a file in the folder; what has none, or two, goes to ``outcomes``.

    So does a file of no clip, also not of one that went there. What a row has named already
    counts. Raises UserError if there is no such folder.
    """
    known = {stem_of(one.name) for one in (*items, *outcomes)}
    files, faults = list_files(companion.folder, flag=companion.flag)
    shown = companion.folder.name
    outcomes += [fault._replace(name=f"{shown}/{fault.name}") for fault in faults]
    by_stem: dict[str, list[str]] = {}
    fitting = [name for name in files if PurePath(name).suffix.lower() in companion.endings]
    for name in fitting:
        by_stem.setdefault(stem_of(name), []).append(name)
    whole = []
    for item in items:
        names = by_stem.get(stem_of(item.name), [])
        if getattr(item, companion.field) is not None:
            whole.append(item)
        elif len(names) == 1:
            whole.append(item._replace(**{companion.field: files[names[0]]}))
        elif names:
            why = f"{len(names)} files for its {companion.word}: {', '.join(names)}; remove one"
            outcomes.append(Outcome(item.name, "failed", why))
        else:
            why = f"no {companion.word} of its name in {companion.folder}"
            outcomes.append(Outcome(item.name, "skipped", why))
    for name in files:
        if name not in fitting:
            why = f"no {companion.word}: {', '.join(companion.endings)} are read"
            outcomes.append(Outcome(f"{shown}/{name}", "skipped", why))
        elif stem_of(name) not in known:
            why = f"a {companion.word} without its clip"
            outcomes.append(Outcome(f"{shown}/{name}", "skipped", why))
    return whole
