"""What a clip is given, as people have it in files, and as the conditions that a stage takes.

``Media`` is decoded pictures and sounds; ``encode`` turns them into latents of each stage's size.
"""

from collections.abc import Iterable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.media.masks import token_weights
from ltx_infer.media.resize import cover, temporal_subsample, to_pixels
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Recipe, Stage
from ltx_infer.progress import Report
from ltx_infer.sampling.conditions import (
    AudioCondition,
    AudioIndex,
    Keyframe,
    LatentIndex,
    Mask,
    Reference,
    ReferenceAudio,
    TemporalRegion,
    VideoCondition,
)
from ltx_models.audio_vae import encode_waveform, load_audio_encoder
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.patchify import audio_positions, patchify_audio
from ltx_models.video_vae import VideoEncoder, load_video_encoder
from ltx_models.video_vae.tiling import auto_tiling, tiled_encode

TIME_SCALE = 8
GAP = 0.04  # seconds between a reference sound and the clip: one latent


class Picture(NamedTuple):
    """A still (H, W, 3) in bytes that the clip shows at a frame."""

    pixels: np.ndarray
    frame: int = 0
    strength: float = 1.0
    as_guide: bool = False  # beside the clip's own tokens, not in place of them


class ReferenceClip(NamedTuple):
    """Frames (F, H, W, 3) in bytes for an IC-LoRA, smaller by factors that its file tells."""

    frames: np.ndarray
    strength: float = 1.0
    space_factor: int = 1
    time_factor: int = 1
    attention: float | np.ndarray | None = None  # or a mask (1, 1, F, h, w)


class Sound(NamedTuple):
    """A waveform (2, samples), float32, and its rate in Hz."""

    waveform: np.ndarray
    rate: int


class Media(NamedTuple):
    """Everything that a clip is given, decoded."""

    pictures: tuple[Picture, ...] = ()
    references: tuple[ReferenceClip, ...] = ()
    prefix: np.ndarray | None = None  # (F, H, W, 3) in bytes
    suffix: np.ndarray | None = None
    source: np.ndarray | None = None  # the clip that is changed, (F, H, W, 3) in bytes
    mask: np.ndarray | None = None  # (1, 1, F, h, w), 1 where the source is made anew
    region: tuple[float, float] | None = None  # seconds of the source that are made anew
    frozen: tuple[StreamName, ...] = ()  # streams that stay as they are given
    kept: bool = False  # the frozen stream is that of a source: see ``state.freeze``
    sound: Sound | None = None
    sound_strength: float = 1.0
    reference_sound: Sound | None = None
    reference_beside: bool = False  # the reference sound has the clip's own times, not earlier ones


class StageInputs(NamedTuple):
    """One stage's conditions, and what its streams start from if not from nothing."""

    video: tuple[VideoCondition, ...] = ()
    audio: tuple[AudioCondition, ...] = ()
    video_start: mx.array | None = None  # latents (1, C, F, H, W)
    audio_start: mx.array | None = None  # tokens (1, T, C)
    frozen: tuple[StreamName, ...] = ()
    kept: bool = False


def encode(
    models: Models, media: Media, recipe: Recipe, size: ClipSize, *, report: Report
) -> list[StageInputs]:
    """The inputs of every stage, evaluated; the encoders are freed again.

    Raises UserError for what does not fit the clip.
    """
    clips = (media.prefix, media.suffix, media.source)
    video_given = media.pictures or media.references or any(clip is not None for clip in clips)
    stages = [StageInputs(frozen=media.frozen, kept=media.kept) for _ in recipe.stages]
    if video_given and "video" in recipe.streams:
        report("pictures", 0, 1)
        encoder = load_video_encoder(models.checkpoint, dtype=models.dtype)
        stages = [
            _with_video(encoder, media, stage, size.of(stage.share), given)
            for stage, given in zip(recipe.stages, stages, strict=True)
        ]
        mx.eval(stages)
        del encoder
        mx.clear_cache()
        report("pictures", 1, 1)
    if "audio" in recipe.streams and (media.sound or media.reference_sound):
        report("given sound", 0, 1)
        stages = _with_sound(models, media, stages, size)
        mx.clear_cache()
        report("given sound", 1, 1)
    return stages


def _with_video(
    encoder: VideoEncoder, media: Media, stage: Stage, size: ClipSize, given: StageInputs
) -> StageInputs:
    def latents(frames: Iterable[np.ndarray], *, part: int = 1) -> mx.array:
        pixels = to_pixels(frames, height=size.height // part, width=size.width // part)
        return _encoded(encoder, pixels)

    conditions: list[VideoCondition] = []
    for picture in media.pictures:
        shown = latents([picture.pixels])
        if picture.as_guide:
            conditions.append(Keyframe(shown, picture.frame, picture.strength))
        else:
            index = (picture.frame + TIME_SCALE - 1) // TIME_SCALE
            conditions.append(LatentIndex(shown, picture.strength, index))
    if media.prefix is not None:
        conditions.append(LatentIndex(latents(media.prefix)))
    if media.suffix is not None:
        first = size.num_frames - len(media.suffix)
        conditions.append(
            Keyframe(latents(media.suffix), first, num_pixel_frames=len(media.suffix))
        )
    if stage.references:
        conditions += [_reference(encoder, clip, size) for clip in media.references]
    start = None
    if media.source is not None:
        start = latents(media.source)
        if media.mask is not None:
            conditions.append(Mask(start, 1 - _weights(media.mask, start, size)))
        if media.region is not None:
            conditions.append(TemporalRegion(*media.region))
    keeps_start = media.mask is None  # a masked source is given by its condition alone
    return given._replace(video=tuple(conditions), video_start=start if keeps_start else None)


def _reference(encoder: VideoEncoder, clip: ReferenceClip, size: ClipSize) -> Reference:
    part = clip.space_factor
    pixels = to_pixels(
        clip.frames[: size.num_frames], height=size.height // part, width=size.width // part
    )
    shown = _encoded(encoder, temporal_subsample(pixels, factor=clip.time_factor))
    attention = clip.attention
    if isinstance(attention, np.ndarray):
        _, _, frames, rows, columns = shown.shape
        shown_of = (frames - 1) * TIME_SCALE * clip.time_factor + 1  # frames that made the latents
        attention = token_weights(attention[:, :, :shown_of], grid=(frames, rows, columns))
    return Reference(shown, clip.strength, part, clip.time_factor, attention)


def _weights(mask: np.ndarray, latents: mx.array, size: ClipSize) -> np.ndarray:
    """A mask as one weight a latent (1, F, H, W)."""
    frames = [cover(frame[..., None], height=size.height, width=size.width) for frame in mask[0, 0]]
    _, _, *sides = latents.shape
    grid = (sides[0], sides[1], sides[2])
    resized = np.stack(frames)[None, None, ..., 0]
    return token_weights(resized, grid=grid).reshape(1, *grid)


def _encoded(encoder: VideoEncoder, pixels: np.ndarray) -> mx.array:
    scale = encoder.config.scale
    height, width = (side // scale.space for side in pixels.shape[-2:])
    tiling = auto_tiling(height, width, scale=scale)
    encoded = tiled_encode(encoder, mx.array(pixels), tiling).astype(mx.float32)
    mx.eval(encoded)
    return encoded


def _with_sound(
    models: Models, media: Media, stages: list[StageInputs], size: ClipSize
) -> list[StageInputs]:
    encoder = load_audio_encoder(models.checkpoint, dtype=models.dtype)

    def tokens(sound: Sound) -> mx.array:
        waveform = mx.array(sound.waveform)[None]
        latents = encode_waveform(encoder, waveform, sampling_rate=sound.rate)
        return patchify_audio(latents.astype(mx.float32))

    scale = models.audio_config.scale
    num_latents = scale.num_latents(size.num_frames, size.fps)
    conditions: list[AudioCondition] = []
    start = None
    if media.reference_sound is not None:
        reference = tokens(media.reference_sound)
        positions = audio_positions(reference.shape[1], scale=scale)
        if not media.reference_beside:
            positions = positions - positions.max() - GAP
        conditions.append(ReferenceAudio(reference, positions))
    if media.sound is not None:
        given = tokens(media.sound)[:, :num_latents]
        missing = num_latents - given.shape[1]
        given = mx.pad(given, [(0, 0), (0, missing), (0, 0)])
        if media.sound_strength < 1:
            conditions.append(AudioIndex(given, media.sound_strength))
        else:
            start = given
        if media.region is not None:
            conditions.append(TemporalRegion(*media.region))
    mx.eval(conditions, start)
    return [stage._replace(audio=tuple(conditions), audio_start=start) for stage in stages]
