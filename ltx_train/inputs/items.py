"""What a run is given: clips and stills with all that belongs to each, and what became of others.

From a folder with captions beside the clips, a prompts file, or a data set.
"""

from collections.abc import Sequence

from ltx_train.captions.files import with_written_captions
from ltx_train.inputs.companions import companion_folders, with_companions
from ltx_train.inputs.folder_items import folder_items
from ltx_train.inputs.item import CAPTION_ENDING, Item, Outcome, stem_of
from ltx_train.precompute.config import PrecomputeConfig


def find_items(config: PrecomputeConfig) -> tuple[list[Item], list[Outcome]]:
    """The clips and stills of a run, sorted by name, and the outcome of every other file and row.

    An item's caption is None only with ``config.caption``, which has it written. Of a data set,
    files that are in its tables are written to ``output_dir``. Raises UserError for what concerns
    the whole run.
    """
    if config.dataset is not None:
        from ltx_train.inputs.hf_dataset import dataset_items  # noqa: PLC0415  (a second to import)

        items, outcomes = dataset_items(config)
    else:
        items, outcomes = folder_items(config)
    items, unreadable = with_written_captions(_of_different_names(items, outcomes), config)
    outcomes += unreadable
    if not config.caption:
        items = _captioned(items, config, outcomes)
    for companion in companion_folders(config):
        items = with_companions(items, companion, outcomes)
    return items, outcomes


def _of_different_names(items: Sequence[Item], outcomes: list[Outcome]) -> list[Item]:
    """The items by name; of those that differ only in their endings the first."""
    found: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: item.name):
        twin = found.setdefault(stem_of(item.name), item)
        if twin is not item:
            why = f"{twin.name} has the same name; rename one"
            outcomes.append(Outcome(item.name, "failed", why))
    return list(found.values())


def _captioned(
    items: Sequence[Item], config: PrecomputeConfig, outcomes: list[Outcome]
) -> list[Item]:
    """The items that have a caption."""
    listed = config.prompts_file.name if config.prompts_file else None
    listed = config.dataset if config.dataset is not None else listed
    for item in items:
        if item.caption is None:
            wanted = item.path.with_suffix(CAPTION_ENDING).name
            why = f"no caption in {listed}" if listed else "no caption"
            outcomes.append(Outcome(item.name, "skipped", f"{why}; {wanted} is wanted"))
    return [item for item in items if item.caption is not None]
