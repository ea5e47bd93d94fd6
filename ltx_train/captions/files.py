"""Where captions are written, for a person to put right."""

import os
from collections.abc import Sequence
from pathlib import Path

from ltx_models.errors import UserError
from ltx_models.files import remove_unfinished
from ltx_train.inputs.item import CAPTION_ENDING, Item, Outcome
from ltx_train.inputs.text import read_text
from ltx_train.precompute.config import PrecomputeConfig

FOLDER = "captions"  # in the output folder


def caption_path(item: Item, config: PrecomputeConfig) -> Path:
    """Beside the clip; in OUT/captions for a data set, and where nothing can be written beside."""
    if config.dataset is None and os.access(item.path.parent, os.W_OK):
        return item.path.with_suffix(CAPTION_ENDING)
    return config.output_dir / FOLDER / f"{item.stem}{CAPTION_ENDING}"


def written_caption(item: Item, config: PrecomputeConfig) -> str | None:
    """The caption that a run before wrote, or a person; None if there is no file for it.

    Raises UserError for a file with nothing to read in it.
    """
    path = caption_path(item, config)
    if not path.exists():
        return None
    caption = read_text(path).strip()
    if not caption:
        raise UserError(f"{path} is empty; write a caption, or delete it to have one written")
    return caption


def with_written_captions(
    items: Sequence[Item], config: PrecomputeConfig
) -> tuple[list[Item], list[Outcome]]:
    """The items, with captions of runs before; and the outcomes of those with unreadable ones."""
    found: list[Item] = []
    outcomes: list[Outcome] = []
    for item in items:
        try:
            found.append(item._replace(caption=item.caption or written_caption(item, config)))
        except UserError as error:
            outcomes.append(failed(item, error))
    return found, outcomes


def remove_unfinished_captions(items: Sequence[Item], config: PrecomputeConfig) -> None:
    """Remove what runs that were killed had begun to write where captions are written."""
    for folder in {caption_path(item, config).parent for item in items}:
        remove_unfinished(folder, pattern=f".*{CAPTION_ENDING}.*.unfinished")


def failed(item: Item, error: UserError) -> Outcome:
    """The outcome of an item that cannot be used, on one line."""
    return Outcome(item.name, "failed", " ".join(str(error).split("\n")))
