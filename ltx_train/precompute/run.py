"""From a folder of clips to a data set: one network after the other, each loaded once and freed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ltx_infer.progress import Report
from ltx_models.audio_vae import load_audio_decoder, load_audio_encoder, load_vocoder
from ltx_models.checkpoint import Checkpoint
from ltx_models.device import compute_dtype
from ltx_models.files import check_writable, remove_unfinished
from ltx_models.video_vae import VideoVAEConfig, load_video_decoder, load_video_encoder
from ltx_train.captions.caption import caption_items
from ltx_train.captions.files import remove_unfinished_captions
from ltx_train.data.layout import EMPTY_PROMPT, Kind, sample_path
from ltx_train.inputs.item import Outcome
from ltx_train.inputs.items import find_items
from ltx_train.inputs.sheet import Seen, sheet_lines, understand
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.encode import Work, encode_pictures, encode_sounds, write_masks
from ltx_train.precompute.preview import write_preview
from ltx_train.precompute.prompts import encode_prompt_list
from ltx_train.precompute.store import (
    BETWEEN,
    Maker,
    check_maker,
    manifest_line,
    remove_samples,
    strangers,
    write_manifest,
)
from ltx_train.precompute.tasks import AUDIO_KINDS, Plan, make_plan
from ltx_train.precompute.text import KEPT, open_model, text_model, write_features
from ltx_train.reading.ahead import worker_pool

Say = Callable[[str], None]
SHOWN = 3  # names in a line


def precompute(config: PrecomputeConfig, *, report: Report, say: Say) -> list[Outcome]:
    """Make what training needs of every clip; one outcome for each input, in the order of names.

    What is there already, and would come out the same, is kept unless ``overwrite``; a clip that
    fails on the way leaves no file. ``dry_run`` gives the outcomes of what would not be encoded.
    Raises UserError for what concerns all clips, before anything is written.
    """
    if config.prompts_only:
        return encode_prompt_list(config, report=report)
    checkpoint, gemma = open_model(config)  # before the files of a data set are written
    items, outcomes = find_items(config)
    scale = checkpoint.section("vae", VideoVAEConfig).scale
    seen, rejected = understand(items, config, scale)
    outcomes += rejected
    plan = make_plan(config, checkpoint, seen)
    _check(plan, checkpoint, gemma, seen)
    for line in sheet_lines(seen, outcomes):
        say(line)
    if config.dry_run:
        return sorted(outcomes)
    remove_unfinished(config.output_dir)
    if others := strangers(config.output_dir, [one.item.stem for one in seen]):
        shown = f"{', '.join(others[:SHOWN])}{', ...' if others[SHOWN:] else ''}"
        count = f"{len(others)} of its samples"
        say(f"{config.output_dir}: {count} are of no clip of this run and stay: {shown}")
    if config.caption:
        remove_unfinished_captions(items, config)
        seen, rejected = _with_captions(seen, config, report)
        outcomes += rejected
    outcomes += _encode(seen, plan, checkpoint, gemma, report)
    if config.preview:
        write_preview(config, seen, outcomes, checkpoint, report=report)
    return sorted(outcomes)


def _with_captions(
    seen: Sequence[Seen], config: PrecomputeConfig, report: Report
) -> tuple[list[Seen], list[Outcome]]:
    """The clips that have a caption now, and the outcomes of the others."""
    items, outcomes = caption_items([one.item for one in seen], config, report=report)
    by_name = {item.name: item for item in items}
    captioned = [
        one._replace(item=by_name[one.item.name]) for one in seen if one.item.name in by_name
    ]
    return captioned, outcomes


def _check(plan: Plan, checkpoint: Checkpoint, gemma: Path, seen: Sequence[Seen]) -> None:
    """Fit every network that the run will use, and find what other models have made.

    Raises UserError for what does not fit.
    """
    config = plan.config
    check_writable(config.output_dir, name="--output-dir")
    headers = replace(checkpoint, header_only=True)
    load_video_encoder(headers, dtype=mx.float32)
    if config.preview:
        load_video_decoder(headers, dtype=mx.float32)
    if plan.audio is not None:
        load_audio_encoder(headers, dtype=mx.float32)
    if plan.audio is not None and config.preview:
        load_audio_decoder(headers, dtype=mx.float32)
        load_vocoder(headers)
    if config.overwrite:
        return
    text = text_model(checkpoint, gemma)
    words = Maker(text["model_version"], text["model_hash"])
    makers: dict[Kind, Maker] = {
        "latents": plan.video,
        "reference_latents": plan.video,
        "conditions": words,
    }
    if plan.audio is not None:
        makers |= dict.fromkeys(AUDIO_KINDS, plan.audio)
    for kind, maker in makers.items():
        stems = (one.item.stem for one in seen)
        check_maker((sample_path(config.output_dir, kind, stem) for stem in stems), maker)
    check_maker([config.output_dir / EMPTY_PROMPT], words)


def _encode(
    seen: Sequence[Seen], plan: Plan, checkpoint: Checkpoint, gemma: Path, report: Report
) -> list[Outcome]:
    """Write the files of all clips, and their list; an outcome for each."""
    config = plan.config
    with worker_pool() as pool:
        work = Work(seen, plan, pool, report)
        encode_pictures(work, load_video_encoder(checkpoint, dtype=compute_dtype()))
        mx.clear_cache()
        if plan.audio is not None:  # float32, as the public trainer has it (spec/training.md 1.4)
            encode_sounds(work, load_audio_encoder(checkpoint, dtype=mx.float32))
            mx.clear_cache()
        write_masks(work)
    remove_samples(config.output_dir, work.faults)
    items = [one.item for one in work.whole]
    words = write_features(items, config, checkpoint, gemma, report=report) if items else []
    mx.clear_cache()
    lines, outcomes = [], list(work.faults.values())
    for one, (_, _, said) in zip(work.whole, words, strict=True):
        of_text = [note for note in said.split(BETWEEN) if note]
        first = [*_standing_notes(one, config), *(note for note in of_text if note != KEPT)]
        line = manifest_line(config.output_dir, one.item, notes=first)
        kept = [KEPT] if KEPT in of_text and one.item.name not in work.written else []
        outcomes.append(Outcome(one.item.name, "done", BETWEEN.join([*kept, *line["notes"]])))
        lines.append(line)
    write_manifest(config.output_dir, lines)
    return outcomes


def _standing_notes(seen: Seen, config: PrecomputeConfig) -> list[str]:
    """What there is to say of a clip whether it was encoded now or before."""
    notes = []
    if seen.is_hdr:
        notes.append("HDR, read without tone mapping")
    if config.with_audio and not seen.has_sound and not seen.is_still:
        notes.append("it has no sound")
    return notes
