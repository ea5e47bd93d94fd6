"""Captions to the features that training reads (spec/training.md 1.4): before the connectors.

Of valid tokens only: video_prompt_embeds and audio_prompt_embeds (n, dim), of which LTX-2 has one
for both, and prompt_attention_mask (n,), all true. n is at most what the text encoder takes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import mlx.core as mx

from ltx_infer.hub import find_model
from ltx_infer.progress import Report
from ltx_models.check import check_text_encoder
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.converted.layout import PROJECTION
from ltx_models.device import compute_dtype
from ltx_models.files import write_tensors
from ltx_models.identity import weights_hash
from ltx_models.text_encoder import num_tokens_left_out, stream_features
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.text_encoder.features import TextFeatures
from ltx_train.data.layout import (
    AUDIO_FEATURES,
    EMPTY_PROMPT,
    FEATURE_MASK,
    VIDEO_FEATURES,
    sample_path,
)
from ltx_train.inputs.item import Item, Outcome
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.store import BETWEEN, Maker, check_maker, made_by, stored_metadata

Metadata = dict[str, str]
KEPT = "kept, as nothing changed"


def open_model(config: PrecomputeConfig) -> tuple[Checkpoint, Path]:
    """The checkpoint and the folder of a Gemma. Raises UserError for what does not fit."""
    files = find_model(config.model, variant="dev")
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.allow_unknown_config)
    gemma = files.text_encoder(config.text_encoder_repo)
    for note in files.notes:
        files.say(note)
    check_text_encoder(checkpoint, gemma)
    return checkpoint, gemma


def with_trigger(caption: str, trigger: str | None) -> str:
    """The caption as it is encoded: the trigger word in front, unless it begins with it."""
    if not trigger or re.match(rf"{re.escape(trigger)}(?!\w)", caption):
        return caption
    return f"{trigger} {caption}"


def write_features(
    items: Sequence[Item],
    config: PrecomputeConfig,
    checkpoint: Checkpoint,
    gemma: Path,
    *,
    report: Report,
) -> list[Outcome]:
    """Encode each distinct caption once, and the empty prompt; an outcome for each item.

    Every item has a caption. What is current is kept. Raises UserError for a file of another model
    unless ``overwrite``, and as ``stream_features`` does.
    """
    model = text_model(checkpoint, gemma)
    captions = [with_trigger(item.caption or "", config.trigger) for item in items]
    paths = [sample_path(config.output_dir, "conditions", item.stem) for item in items]
    abouts = {config.output_dir / EMPTY_PROMPT: {"caption": "", "trigger": "", **model}}
    for path, caption in zip(paths, captions, strict=True):
        abouts[path] = {"caption": caption, "trigger": config.trigger or "", **model}
    wanted = wanted_files(abouts, overwrite=config.overwrite)
    by_caption: dict[str, list[Path]] = {}
    for path, about in wanted.items():
        by_caption.setdefault(about["caption"], []).append(path)
    for caption, features in encode_each(checkpoint, gemma, list(by_caption), report=report):
        for path in by_caption[caption]:
            write_tensors(path, feature_tensors(features), wanted[path])
    notes = cut_notes(gemma, captions)
    outcomes = []
    for item, caption, path in zip(items, captions, paths, strict=True):
        said = ["" if path in wanted else KEPT, notes.get(caption, "")]
        outcomes.append(Outcome(item.name, "done", BETWEEN.join(filter(None, said))))
    return outcomes


def text_model(checkpoint: Checkpoint, gemma: Path) -> Metadata:
    """The metadata that say which text encoder made a file."""
    encoder = weights_hash(sorted(gemma.glob("model*.safetensors")))
    version, projection = made_by(checkpoint, PROJECTION)
    return Maker(version, f"{encoder}-{projection}").about


def wanted_files(abouts: Mapping[Path, Metadata], *, overwrite: bool) -> dict[Path, Metadata]:
    """The files that are to be made, of some with the metadata that they are to have.

    Raises UserError for one that another model made, unless ``overwrite``.
    """
    if overwrite:
        return dict(abouts)
    for path, about in abouts.items():
        check_maker([path], Maker(about["model_version"], about["model_hash"]))
    return {path: about for path, about in abouts.items() if stored_metadata(path) != about}


def encode_each(
    checkpoint: Checkpoint, gemma: Path, prompts: Sequence[str], *, report: Report
) -> Iterator[tuple[str, TextFeatures]]:
    """Each prompt with its features; no network is read where there are none."""
    if not prompts:
        return
    report("text", 0, len(prompts))
    features = stream_features(gemma, checkpoint, prompts, dtype=compute_dtype())
    for number, pair in enumerate(zip(prompts, features, strict=True), 1):
        yield pair
        report("text", number, len(prompts))


def feature_tensors(features: TextFeatures, *, prefix: str = "") -> dict[str, mx.array]:
    """The tensors of a file; LTX-2 has the same features for the picture and for the sound."""
    tensors = {
        VIDEO_FEATURES: features.video,
        FEATURE_MASK: mx.ones(features.video.shape[:1], mx.bool_),
    }
    if features.audio is not features.video:
        tensors[AUDIO_FEATURES] = features.audio
    return {prefix + name: tensor for name, tensor in tensors.items()}


def cut_notes(gemma: Path, captions: Iterable[str]) -> Mapping[str, str]:
    """What is to be said of captions that are longer than the text encoder reads, by caption."""
    distinct = list(dict.fromkeys(captions))
    left_out = zip(distinct, num_tokens_left_out(gemma, distinct), strict=True)
    return {
        caption: f"the last {number} tokens of its text are left out, {MAX_LENGTH} are read"
        for caption, number in left_out
        if number
    }
