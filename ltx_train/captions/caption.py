"""Captions for the items that have none, each written as text that a person can put right."""

from collections.abc import Sequence

import mlx.core as mx

from ltx_infer.progress import Report
from ltx_models.errors import UserError
from ltx_models.files import write_text
from ltx_train.captions import with_mlx, with_transformers
from ltx_train.captions.files import caption_path, failed, with_written_captions, written_caption
from ltx_train.captions.frames import sample_frames
from ltx_train.captions.tidy import tidy
from ltx_train.captions.with_mlx import Captioner
from ltx_train.inputs.item import Item, Outcome
from ltx_train.precompute.config import CAPTION_MODEL, PrecomputeConfig

TORCH_MODEL = "HuggingFaceTB/SmolVLM-Instruct"  # of which CAPTION_MODEL is made
INSTRUCTION = (
    "Write the caption of a clip. You are given frames of it in their order, or a single picture. "
    "In one paragraph of three to five plain sentences in the present tense, say who or what is "
    "seen and how it looks, what it does and how it moves, where it is, what the light is like, "
    "and whether the camera moves. Say only what can be seen. Speak of the scene, never of frames, "
    "pictures or a video, and write nothing but the caption."
)


def caption_items(
    items: Sequence[Item], config: PrecomputeConfig, *, report: Report
) -> tuple[list[Item], list[Outcome]]:
    """The items that have a caption now, in their order, and the outcomes of the others.

    A caption that is there is kept, and so is a file that a caption would be written to. The model
    is loaded once, if it is needed, and let go at the end. Raises UserError if it cannot be loaded.
    """
    known, outcomes = with_written_captions(items, config)
    total = sum(item.caption is None for item in known)
    if not total:
        return known, outcomes
    captioner = _load(config)
    ready: list[Item] = []
    done = 0
    for item in known:
        if item.caption is not None:
            ready.append(item)
            continue
        report("captions", done, total)
        try:
            ready.append(item._replace(caption=_caption(item, config, captioner)))
        except UserError as error:
            outcomes.append(failed(item, error))
        done += 1
    report("captions", total, total)
    del captioner
    mx.clear_cache()
    return ready, outcomes


def _load(config: PrecomputeConfig) -> Captioner:
    instruction = config.caption_prompt or INSTRUCTION
    if config.caption_backend == "mlx":
        return with_mlx.load_captioner(config.caption_model, instruction)
    is_default = config.caption_model == CAPTION_MODEL
    model = TORCH_MODEL if is_default else config.caption_model
    return with_transformers.load_captioner(model, instruction)


def _caption(item: Item, config: PrecomputeConfig, captioner: Captioner) -> str:
    """Caption an item and write it down at once. Raises UserError where that cannot be done."""
    most = max((bucket.num_frames for bucket in config.resolution_buckets), default=None)
    answer = captioner(sample_frames(item.path, max_frames=most, fps=config.fps))
    caption = tidy(answer.text, is_whole=answer.is_whole)
    if not caption:
        raise UserError("the caption model said nothing of it")
    written = written_caption(item, config)  # by a person, since this run began
    if written is not None:
        return written
    write_text(caption_path(item, config), f"{caption}\n")
    return caption
