"""Prompts to the text features that ltx-generate takes with --embedding, one file a prompt.

``OUT/003-a-boat-at-dusk.safetensors``: the tensors of a caption's file (see ``text``) for the
prompt, and the same for the negative prompt with ``negative_`` in front of their names:
video_prompt_embeds, audio_prompt_embeds (n, dim) and prompt_attention_mask (n,), before the
connectors and of valid tokens only. LTX-2 has no audio_prompt_embeds: those of the video are both.
Metadata: prompt, negative_prompt, model_version, model_hash.
"""

import re
from pathlib import Path

import mlx.core as mx

from ltx_infer.progress import Report
from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_models.files import check_writable, write_tensors
from ltx_train.data.layout import ENDING
from ltx_train.inputs.item import Outcome
from ltx_train.inputs.prompts import read_rows
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.store import BETWEEN
from ltx_train.precompute.text import (
    KEPT,
    cut_notes,
    encode_each,
    feature_tensors,
    open_model,
    text_model,
    wanted_files,
    with_trigger,
)

NEGATIVE = "negative_"
SLUG_LENGTH = 40


def encode_prompt_list(config: PrecomputeConfig, *, report: Report) -> list[Outcome]:
    """Write a file for every prompt of ``prompts_file``; one outcome for each, and for each fault.

    What is current is kept. Raises UserError where there is no prompt, for a model that does not
    fit, and for a file of another model unless ``overwrite``.
    """
    prompts, outcomes = _read_prompts(config)
    check_writable(config.output_dir, name="--output-dir")
    checkpoint, gemma = open_model(config)
    model = text_model(checkpoint, gemma)
    abouts = {
        config.output_dir / file_name(number, prompt): {
            "prompt": prompt,
            "negative_prompt": config.negative_prompt,
            **model,
        }
        for number, prompt in enumerate(prompts, 1)
    }
    wanted = wanted_files(abouts, overwrite=config.overwrite)
    _write(wanted, config, checkpoint, gemma, report=report)
    notes = cut_notes(gemma, [*prompts, config.negative_prompt])
    for path, about in abouts.items():
        said = [] if path in wanted else [KEPT]
        said += [
            f"{key.replace('_', ' ')}: {notes[about[key]]}"
            for key in ("prompt", "negative_prompt")
            if about[key] in notes
        ]
        outcomes.append(Outcome(path.name, "done", BETWEEN.join(said)))
    return outcomes


def file_name(number: int, prompt: str) -> str:
    """As "003-a-boat-at-dusk.safetensors": the prompt's place in the list, and how it begins."""
    words = re.sub(r"[\W_]+", "-", prompt.lower())[:SLUG_LENGTH].strip("-")
    return f"{number:03}-{words}{ENDING}" if words else f"{number:03}{ENDING}"


def _read_prompts(config: PrecomputeConfig) -> tuple[list[str], list[Outcome]]:
    if config.prompts_file is None:
        raise UserError("--prompts-only: it wants the prompts in --prompts-file FILE")
    rows, outcomes = read_rows(config.prompts_file, caption_column=config.caption_column)
    prompts = []
    for row in rows:
        if row.caption:
            prompts.append(with_trigger(row.caption, config.trigger))
        else:
            outcomes.append(Outcome(row.place, "failed", f"no {config.caption_column}"))
    if not prompts:
        raise UserError(f"--prompts-file {config.prompts_file}: no prompt in it")
    return prompts, outcomes


def _write(
    wanted: dict[Path, dict[str, str]],
    config: PrecomputeConfig,
    checkpoint: Checkpoint,
    gemma: Path,
    *,
    report: Report,
) -> None:
    """Encode the negative prompt, then each distinct prompt, and write the files of each."""
    by_prompt: dict[str, list[Path]] = {}
    for path, about in wanted.items():
        by_prompt.setdefault(about["prompt"], []).append(path)
    prompts = [config.negative_prompt, *by_prompt] if by_prompt else []
    negative: dict[str, mx.array] = {}
    for prompt, features in encode_each(checkpoint, gemma, prompts, report=report):
        if not negative:
            negative = feature_tensors(features, prefix=NEGATIVE)
            continue
        for path in by_prompt[prompt]:
            write_tensors(path, {**feature_tensors(features), **negative}, wanted[path])
