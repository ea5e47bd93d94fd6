"""Clips and captions to latents and text features on disk (spec/training.md 1.4, 1.5).

One network after the other is loaded, used for all clips, and freed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.hub import find_model
from ltx_infer.media.video import video_info, video_pixels
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.files import check_writable, write_tensors, write_text
from ltx_models.text_encoder import encode_features
from ltx_models.text_encoder.features import TextFeatures, load_feature_extractor
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.video_vae import VideoVAEConfig, load_video_encoder
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.tiling import tiled_encode
from ltx_models.weights import TensorFile, WeightsError
from ltx_train.data.dataset import version_text
from ltx_train.data.layout import (
    AUDIO_FEATURES,
    EMPTY_PROMPT,
    FEATURE_MASK,
    LATENTS,
    MANIFEST,
    VIDEO_FEATURES,
    sample_path,
)
from ltx_train.inputs.buckets import Bucket, best_bucket, check_buckets
from ltx_train.inputs.items import Item, Outcome, find_clips
from ltx_train.precompute.config import PrecomputeConfig

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many
KEPT = "kept, as nothing changed"


class Networks(NamedTuple):
    """The files of the networks, opened and fitted, but not read."""

    checkpoint: Checkpoint
    gemma: Path


def precompute(config: PrecomputeConfig, *, report: Report) -> list[Outcome]:
    """Make what training needs of every clip of a folder; one outcome for each file in it.

    What is there already, from the same source, caption, bucket and model version, is kept unless
    ``overwrite``. Raises UserError for what concerns all clips, before anything is written.
    """
    assert config.input_dir is not None  # the command line requires it
    clips, outcomes = find_clips(config.input_dir, leave_out=config.output_dir)
    check_writable(config.output_dir, name="--output-dir")
    networks = _open_networks(config)
    if clips:
        encoder = load_video_encoder(networks.checkpoint, dtype=compute_dtype())
        for number, clip in enumerate(clips):
            report("latents", number, len(clips))
            outcomes.append(_write_latents(clip, config, networks, encoder))
        del encoder
        mx.clear_cache()
        report("latents", len(clips), len(clips))
    finished = {outcome.name for outcome in outcomes if outcome.status == "done"}
    clips = [clip for clip in clips if clip.name in finished]
    if clips:
        report("text", 0, 1)
        _write_features(clips, config, networks)
        report("text", 1, 1)
    lines = [json.dumps(_manifest_entry(clip, config.output_dir)) for clip in clips]
    write_text(config.output_dir / MANIFEST, "".join(f"{line}\n" for line in lines))
    return sorted(outcomes)


def _open_networks(config: PrecomputeConfig) -> Networks:
    """Find and fit every network that the run will use. Raises UserError for what does not fit."""
    files = find_model(config.model, variant="dev")
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.allow_unknown_config)
    check_buckets(config.resolution_buckets, checkpoint.section("vae", VideoVAEConfig).scale)
    named = config.text_encoder_repo
    gemma = files.text_encoder() if named is None else named.expanduser()
    load_video_encoder(checkpoint, dtype=compute_dtype())
    load_feature_extractor(checkpoint, read_gemma_config(gemma), dtype=compute_dtype())
    return Networks(checkpoint, gemma)


def _write_latents(
    clip: Item, config: PrecomputeConfig, networks: Networks, encoder: VideoEncoder
) -> Outcome:
    """Encode one clip, unless it was before; what hinders it is its outcome."""
    try:
        info = video_info(clip.path)
        # The header may count one frame too few; the frames themselves are counted below.
        bucket = best_bucket(
            config.resolution_buckets,
            height=info.height,
            width=info.width,
            num_frames=info.num_frames + 1,
        )
        if bucket is None:
            return _too_short(
                clip, info.num_frames, min(config.resolution_buckets, key=lambda b: b.num_frames)
            )
        about = {
            "fps": str(float(info.fps)),
            "bucket": str(bucket),
            "source": clip.name,
            "source_sha256": _sha256(clip.path),
            "model_version": version_text(networks.checkpoint),
        }
        path = sample_path(config.output_dir, LATENTS, clip.stem)
        if not config.overwrite and _is_current(path, about):
            return Outcome(clip.name, "done", KEPT)
        video = video_pixels(
            clip.path, height=bucket.height, width=bucket.width, max_frames=bucket.num_frames
        )
    except UserError as error:
        return Outcome(clip.name, "failed", " ".join(str(error).split("\n")))
    if video.shape[2] < bucket.num_frames:
        return _too_short(clip, video.shape[2], bucket)
    latents = tiled_encode(encoder, mx.array(video))[0]
    if not mx.isfinite(latents).all():
        return Outcome(clip.name, "failed", "its latents are not all finite")
    sizes = dict(zip(("num_frames", "height", "width"), map(str, latents.shape[1:]), strict=True))
    write_tensors(path, {LATENTS: latents}, {**about, **sizes})
    return Outcome(clip.name, "done", "HDR, read without tone mapping" if info.is_hdr else "")


def _too_short(clip: Item, num_frames: int, bucket: Bucket) -> Outcome:
    reason = f"too short: {num_frames} frames, {bucket} needs {bucket.num_frames}"
    return Outcome(clip.name, "skipped", reason)


def _write_features(clips: Sequence[Item], config: PrecomputeConfig, networks: Networks) -> None:
    """Encode the captions that were not before, each once, and the empty prompt."""
    version = version_text(networks.checkpoint)
    captions = {
        sample_path(config.output_dir, "conditions", clip.stem): clip.caption or ""
        for clip in clips
    }
    captions[config.output_dir / EMPTY_PROMPT] = ""
    abouts = {
        path: {"caption": caption, "model_version": version} for path, caption in captions.items()
    }
    wanted = {
        path: about
        for path, about in abouts.items()
        if config.overwrite or not _is_current(path, about)
    }
    prompts = list(dict.fromkeys(about["caption"] for about in wanted.values()))
    if not prompts:
        return
    features = encode_features(networks.gemma, networks.checkpoint, prompts, dtype=compute_dtype())
    by_prompt = dict(zip(prompts, features, strict=True))
    for path, about in wanted.items():
        write_tensors(path, _feature_tensors(by_prompt[about["caption"]]), about)


def _feature_tensors(features: TextFeatures) -> dict[str, mx.array]:
    """Features of the valid tokens (n, dim) and their mask (n,); LTX-2 has the same for both."""
    tensors = {
        VIDEO_FEATURES: features.video,
        FEATURE_MASK: mx.ones(features.video.shape[:1], mx.bool_),
    }
    if features.audio is not features.video:
        tensors[AUDIO_FEATURES] = features.audio
    return tensors


def _is_current(path: Path, about: Mapping[str, str]) -> bool:
    """Whether a file is there, whole, and says this of itself."""
    try:
        return about.items() <= TensorFile(path).metadata.items()
    except WeightsError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_entry(clip: Item, folder: Path) -> dict[str, str | float | None]:
    path = sample_path(folder, LATENTS, clip.stem)
    about = TensorFile(path).metadata
    return {
        "clip": clip.name,
        "caption": clip.caption,
        "bucket": about["bucket"],
        "fps": float(about["fps"]),
        **{
            kind: os.fspath(sample_path(Path(), kind, clip.stem))
            for kind in (LATENTS, "conditions")
        },
    }
