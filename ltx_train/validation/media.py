"""The files that a sample's condition names, read and fitted to its clip.

All of a clip that is given is read at the clip's rate; what is missing or too short is an error.
Letters: F frames, H W rows and columns, T latent frames of the sound.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltx_infer.media.images import compress, default_crf, is_still, read_image
from ltx_infer.media.masks import read_mask, token_weights
from ltx_infer.media.sound import read_sound
from ltx_infer.media.video import read_video
from ltx_infer.media.write import Sound
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_models.errors import UserError
from ltx_train.config import SampleCondition
from ltx_train.config.validation import (
    FirstFrameSample,
    MaskSample,
    PrefixSample,
    ReferenceSample,
    SpatialCropSample,
    SuffixSample,
    stream_of,
)
from ltx_train.data.conditions import region
from ltx_train.reading.masks import sound_weights
from ltx_train.validation.samples import Plan, told

MARGIN = 1.0  # seconds of sound after what is wanted, so that its last latent is a whole one
TOLERANCE = 0.02  # seconds that a sound may end early without a word


class Given(NamedTuple):
    """A condition's media."""

    condition: SampleCondition
    frames: np.ndarray | None = None  # (F, H, W, 3) in bytes
    sound: Sound | None = None
    span: tuple[int, int] = (0, 0)  # of an end and of a sound: which of its latents are given
    mask: np.ndarray | None = None  # of bool, (F, H, W) of latents or (T,): what is given


def read_given(plan: Plan, models: Models) -> tuple[list[Given], list[str]]:
    """The media of a sample's conditions, and what was decided, a line each.

    Raises UserError with the path of the key for what cannot be read or used.
    """
    found, notes = [], list[str]()
    for index, condition in enumerate(plan.sample.conditions):
        at = f"{plan.at}.conditions.{index}"
        if stream_of(condition) == "video":
            found.append(_read_frames(condition, plan.size, models, at))
        else:
            found.append(_read_sound(condition, plan.size, models, at, notes))
    return found, notes


def _read_frames(condition: SampleCondition, size: ClipSize, models: Models, at: str) -> Given:
    if isinstance(condition, FirstFrameSample):
        with told(f"{at}.image_or_video"):
            return Given(condition, _first_frame(condition, size, models))
    path, mask = Path(getattr(condition, "video", "")).expanduser(), None
    if isinstance(condition, ReferenceSample):
        _check_factors(condition, size, models, at)
    with told(f"{at}.video"):
        frames, _ = read_video(path, fps=size.fps, max_frames=size.num_frames)
        if isinstance(condition, PrefixSample | SuffixSample):
            return _end(condition, frames, size, models)
        if len(frames) < size.num_frames:
            raise UserError(
                f"{path}: {len(frames)} frames at {size.fps:g} a second, the clip has "
                f"{size.num_frames}"
            )
    if isinstance(condition, SpatialCropSample):
        mask = _region(condition, size, models, at)
    elif isinstance(condition, MaskSample):
        mask = _mask(condition, size, models, at)
    return Given(condition, frames, mask=mask)


def _first_frame(condition: FirstFrameSample, size: ClipSize, models: Models) -> np.ndarray:
    """(1, H, W, 3); a still as ltx-generate takes it, a clip's frame as it is."""
    path = Path(condition.image_or_video).expanduser()
    if is_still(path):
        crf = default_crf(models.checkpoint.version)
        return compress(read_image(path), crf=crf)[None]
    return read_video(path, fps=size.fps, max_frames=1)[0]


def _end(
    condition: PrefixSample | SuffixSample, frames: np.ndarray, size: ClipSize, models: Models
) -> Given:
    """Frames before the clip's own, or after: as many as the condition says.

    The latents of what comes after are cut from those of a longer clip, as the first latent of
    any is a single frame's; it is the last of what the file has in the clip's length.
    """
    time, path = models.video_config.scale.time, condition.video
    whole = (len(frames) - 1) // time * time + 1
    is_prefix = isinstance(condition, PrefixSample)
    wanted, extra = condition.num_frames, 0 if is_prefix else 1
    if wanted is None:
        wanted = whole - extra
    if (wanted - 1 + extra) % time:
        rule = f"a multiple of {time}{' plus 1' if is_prefix else ''}"
        raise UserError(f"{path}: {wanted} frames of it; {rule} is what this checkpoint takes")
    if wanted + extra > whole or wanted < 1:
        raise UserError(
            f"{path}: {len(frames)} frames at {size.fps:g} a second, {wanted + extra} are needed"
        )
    if wanted + extra >= size.num_frames and (is_prefix or condition.num_frames is None):
        raise UserError(
            f"{path}: as long as the clip, which has {size.num_frames} frames; num_frames says "
            "how many of them are given"
        )
    if is_prefix:
        return Given(condition, frames[:wanted], span=(0, (wanted - 1) // time + 1))
    last = (whole - 1) // time + 1
    return Given(condition, frames[:whole], span=(last - wanted // time, last))


def _check_factors(condition: ReferenceSample, size: ClipSize, models: Models, at: str) -> None:
    scale = models.video_config.scale
    multiple = condition.downscale_factor * scale.space
    if size.height % multiple or size.width % multiple:
        raise UserError(
            f"{at}.downscale_factor: a reference of 1/{condition.downscale_factor} the size for a "
            f"clip of {size.width}x{size.height}; multiples of {multiple} would fit"
        )
    multiple = condition.temporal_scale_factor * scale.time
    if (size.num_frames - 1) % multiple:
        raise UserError(
            f"{at}.temporal_scale_factor: one of {condition.temporal_scale_factor} frames for a "
            f"clip of {size.num_frames}; a multiple of {multiple} plus 1 would fit"
        )


def _region(condition: SpatialCropSample, size: ClipSize, models: Models, at: str) -> np.ndarray:
    grid, corners = models.latent_size(size), condition.spatial_region
    inside = region(grid, corners, scale=models.video_config.scale)
    if not inside.any():
        raise UserError(
            f"{at}.spatial_region: {list(corners)} has no whole latent of "
            f"{models.video_config.scale.space} pixels in a clip of {size.width}x{size.height}"
        )
    return inside.reshape(grid)


def _mask(condition: MaskSample, size: ClipSize, models: Models, at: str) -> np.ndarray:
    grid, path = models.latent_size(size), Path(condition.mask).expanduser()
    with told(f"{at}.mask"):
        mask = read_mask(
            path,
            num_frames=size.num_frames,
            height=size.height,
            width=size.width,
            fps=size.fps,
        )
    return (token_weights(mask, grid=grid) > 0.5).reshape(grid)


def _read_sound(
    condition: SampleCondition, size: ClipSize, models: Models, at: str, notes: list[str]
) -> Given:
    """Sound; of a condition on all of the clip with silence behind it where it is too short."""
    path, seconds = Path(getattr(condition, "audio", "")).expanduser(), size.num_frames / size.fps
    total, scale = models.num_audio_latents(size), models.audio_config.scale
    with told(f"{at}.audio"):
        sound = read_sound(path, duration=seconds + MARGIN)
        length = sound.samples.shape[1] / sound.rate
        there = round(length * scale.latents_per_second)
        if isinstance(condition, PrefixSample | SuffixSample):
            span = _span(condition, length, there, total, rate=scale.latents_per_second)
            return Given(condition, sound=sound, span=span)
    if isinstance(condition, ReferenceSample):
        _check_reference_sound(condition, at)
        return Given(condition, sound=sound, span=(0, min(there, total)))
    if length < seconds - TOLERANCE:
        notes.append(
            f"{at}.audio: {path} lasts {length:.2f} s, the clip {seconds:.2f} s: silence follows"
        )
    missing = max(round((seconds + MARGIN) * sound.rate) - sound.samples.shape[1], 0)
    padded = sound._replace(samples=np.pad(sound.samples, ((0, 0), (0, missing))))
    mask = None
    if isinstance(condition, MaskSample):
        mask = _sound_mask(condition, size, models, at)
    return Given(condition, sound=padded, span=(0, total), mask=mask)


def _span(
    condition: PrefixSample | SuffixSample, length: float, there: int, total: int, *, rate: float
) -> tuple[int, int]:
    """As ``_end``, of a sound of ``length`` seconds that has ``there`` latents."""
    path, seconds = condition.audio, condition.duration
    seconds = length if seconds is None else seconds
    if length < seconds - TOLERANCE:
        raise UserError(f"{path}: lasts {length:.2f} s, {seconds:g} s of it are wanted")
    wanted = round(seconds * rate)
    if not 0 < wanted < total:
        raise UserError(
            f"{path}: {seconds:.2f} s of it, {wanted} latents; 1 to {total - 1} of the clip's "
            f"{total} can be given, and duration says how much"
        )
    if isinstance(condition, PrefixSample):
        return 0, wanted
    last = max(min(there, total), wanted)
    return last - wanted, last


def _check_reference_sound(condition: ReferenceSample, at: str) -> None:
    if condition.downscale_factor != 1 or condition.temporal_scale_factor != 1:
        raise UserError(f"{at}: a reference of sound has no scale factors but 1")
    if condition.include_in_output:
        raise UserError(f"{at}.include_in_output: sound cannot be shown beside a clip")


def _sound_mask(condition: MaskSample, size: ClipSize, models: Models, at: str) -> np.ndarray:
    """(T,): where the mask is louder than 0.5, as of the masks that are trained on."""
    seconds = size.num_frames / size.fps
    with told(f"{at}.mask"):
        sound = read_sound(Path(condition.mask).expanduser(), duration=seconds)
        length = sound.samples.shape[1] / sound.rate
        if length < seconds - TOLERANCE:
            raise UserError(
                f"{condition.mask}: the mask lasts {length:.2f} s, the clip {seconds:.2f} s"
            )
    weights = sound_weights(
        np.abs(sound.samples).mean(axis=0),
        rate=sound.rate,
        num_latents=models.num_audio_latents(size),
        scale=models.audio_config.scale,
    )
    return weights > 0.5
