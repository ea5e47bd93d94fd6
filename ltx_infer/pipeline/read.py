"""The files that a request names, decoded into ``Media``, and the size that the clip then has."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltx_infer.config import TIME_SCALE, ClipFlag, GenerateConfig
from ltx_infer.media.images import compress, default_crf, read_image
from ltx_infer.media.masks import Padding, pad_video, read_mask
from ltx_infer.media.sound import read_sound
from ltx_infer.media.video import read_video, stream_frames, video_info
from ltx_infer.pipeline.inputs import Media, Picture, ReferenceClip, Sound
from ltx_infer.pipeline.loras import Loras
from ltx_infer.pipeline.models import ClipSize
from ltx_models.errors import UserError

SPACE_SCALE = 32
TOLERANCE = 0.02  # seconds that a sound may differ from the clip without a word
MARGIN = 1.0  # seconds of sound after the clip's end, so that its last latent is a whole one


class Given(NamedTuple):
    """Decoded media, the clip's size, and one line for each thing that was decided."""

    media: Media
    size: ClipSize
    notes: tuple[str, ...]


def source_has_sound(config: GenerateConfig) -> bool:
    """Whether the clip that retake or extend changes has a sound track."""
    remade = config.pipeline in ("retake", "extend")
    return remade and config.video is not None and video_info(config.video).has_sound


def read_media(config: GenerateConfig, loras: Loras, *, version: tuple[int, ...]) -> Given:
    """Read everything that the clip is given. Raises UserError for what cannot be read or used."""
    size = ClipSize(config.num_frames, config.height, config.width, config.fps)
    notes: list[str] = []
    media = Media(
        pictures=_pictures(config, version),
        references=_references(config, loras, size, notes),
        prefix=_clip(config.prefix_video, size),
        suffix=_clip(config.suffix_video, size),
    )
    if config.pipeline in ("retake", "extend"):
        media, size = _remade(config, media, notes)
    elif config.video is not None:
        media = _painted(config, media, size)
    media = _with_sounds(config, media, size, notes)
    if config.reference_audio is not None:
        beside = [file.path.name for file, _ in loras.asked if file.hears_beside]
        media = media._replace(reference_beside=bool(beside))
        notes += [f"--reference-audio: at the clip's own times, as for {name}" for name in beside]
    return Given(media, size, (*notes, *_pale(config)))


def _pale(config: GenerateConfig) -> list[str]:
    """A line for each video whose colours cannot be kept."""
    named = [config.video, *(flag.path for flag in config.video_conditioning)]
    named += [flag.path for flag in (config.prefix_video, config.suffix_video) if flag]
    return [
        f"{path}: HDR, read without tone mapping, so it looks pale"
        for path in dict.fromkeys(path for path in named if path is not None)
        if video_info(path).is_hdr
    ]


def _pictures(config: GenerateConfig, version: tuple[int, ...]) -> tuple[Picture, ...]:
    found = []
    for image in config.image:
        if image.frame >= config.num_frames:
            raise UserError(
                f"--image {image.path} {image.frame}: the clip has frames 0 to "
                f"{config.num_frames - 1}"
            )
        crf = default_crf(version) if image.crf is None else image.crf
        strength = config.image_strength if image.strength is None else image.strength
        mode = "guide" if config.pipeline == "keyframe" else config.conditioning_mode
        as_guide = mode == "guide" or (mode == "auto" and image.frame > 0)
        pixels = compress(read_image(image.path), crf=crf)
        found.append(Picture(pixels, image.frame, strength, as_guide))
    return tuple(found)


def _references(
    config: GenerateConfig, loras: Loras, size: ClipSize, notes: list[str]
) -> tuple[ReferenceClip, ...]:
    """Reference videos, with the factors that the LoRAs' files tell."""
    if not config.video_conditioning:
        return ()
    space, time = _factors(loras)
    multiple = space * SPACE_SCALE * (2 if config.two_stages else 1)
    if size.height % multiple or size.width % multiple:
        raise UserError(
            f"--video-conditioning: the LoRA looks at references of 1/{space} the size; --height "
            f"and --width would fit that are multiples of {multiple}"
        )
    if (size.num_frames - 1) % (time * TIME_SCALE):
        notes.append(
            f"the LoRA looks at every {time} frames of its reference, and the last of "
            f"{size.num_frames} are left out; a multiple of {time * TIME_SCALE} plus 1 would fit"
        )
    attention: float | np.ndarray | None = None
    if config.conditioning_attention_mask is not None:
        mask = read_mask(
            config.conditioning_attention_mask.path,
            num_frames=size.num_frames,
            height=size.height,
            width=size.width,
            fps=size.fps,
        )
        attention = mask * np.float32(config.conditioning_attention_mask.strength)
    found = []
    for reference in config.video_conditioning:
        frames, _ = read_video(reference.path, fps=size.fps, max_frames=size.num_frames)
        if len(frames) < size.num_frames:
            raise UserError(
                f"--video-conditioning {reference.path}: {len(frames)} frames at {size.fps:g} a "
                f"second, the clip has {size.num_frames}; make it shorter: "
                f"--num-frames {_eights(len(frames))}"
            )
        found.append(ReferenceClip(frames, reference.strength, space, time, attention))
    return tuple(found)


def _factors(loras: Loras) -> tuple[int, int]:
    """How much smaller in space and in time a reference is, by all LoRAs that say so."""
    files = [file for file, _ in loras.asked]
    space = {file.reference_downscale_factor: file.path.name for file in files}
    time = {file.reference_temporal_scale_factor: file.path.name for file in files}
    for found in (space, time):
        found.pop(1, None)
        if len(found) > 1:
            said = ", ".join(f"{name} of 1/{factor}" for factor, name in found.items())
            raise UserError(f"--lora: these look at references of different sizes: {said}")
    return next(iter(space), 1), next(iter(time), 1)


def _clip(flag: ClipFlag | None, size: ClipSize) -> np.ndarray | None:
    """The first frames of a prefix or suffix."""
    if flag is None:
        return None
    if flag.frames % TIME_SCALE != 1 or flag.frames >= size.num_frames:
        raise UserError(
            f"{flag.path}: {flag.frames} frames of it; a multiple of {TIME_SCALE} plus 1 that is "
            f"less than the clip's {size.num_frames} would fit"
        )
    frames, _ = read_video(flag.path, fps=size.fps, max_frames=flag.frames)
    if len(frames) < flag.frames:
        raise UserError(f"{flag.path}: has {len(frames)} frames, {flag.frames} were asked for")
    return frames


def _remade(config: GenerateConfig, media: Media, notes: list[str]) -> tuple[Media, ClipSize]:
    """The clip that retake or extend changes, and what of it is made anew."""
    assert config.video is not None
    info = video_info(config.video)
    if config.keep == "audio" and not info.has_sound:
        raise UserError(f"--keep audio: {config.video} has no sound to keep")
    if config.keep == "video" and not (info.has_sound or config.audio or config.reference_audio):
        raise UserError(f"--keep video: {config.video} has no sound to make anew; --audio adds one")
    frames = np.stack(list(stream_frames(config.video)))
    kept = _eights(len(frames))
    if kept != len(frames):
        notes.append(f"{config.video}: its first {kept} of {len(frames)} frames are used")
    frames, fps = frames[:kept], float(info.fps)
    height, width = (_multiple(side) for side in (info.height, info.width))
    if "height" in config.model_fields_set:
        height = config.height
    if "width" in config.model_fields_set:
        width = config.width
    if (height, width) != (info.height, info.width):
        notes.append(f"{config.video}: {info.width}x{info.height} becomes {width}x{height}")
    before, after = config.extend_before or 0, config.extend_after or 0
    if config.pipeline == "extend":
        frames = np.concatenate(
            [frames[:1].repeat(before, axis=0), frames, frames[-1:].repeat(after, axis=0)]
        )
    size = ClipSize(len(frames), height, width, fps)
    region = _region(config, size, kept)
    frozen = () if config.keep is None else (config.keep,)
    kept_stream = config.keep is not None
    return media._replace(source=frames, region=region, frozen=frozen, kept=kept_stream), size


def _region(config: GenerateConfig, size: ClipSize, kept: int) -> tuple[float, float]:
    seconds = size.num_frames / size.fps
    if config.extend_before:
        return 0.0, config.extend_before / size.fps
    if config.extend_after:
        return kept / size.fps, seconds
    end = seconds if config.end_time is None else config.end_time
    if config.start_time >= min(end, seconds):
        raise UserError(
            f"--start-time {config.start_time:g}: nothing lies between it and "
            f"{min(end, seconds):g} s, where the part or the clip ends"
        )
    return config.start_time, end


def _painted(config: GenerateConfig, media: Media, size: ClipSize) -> Media:
    """In- and outpainting: the source, and the mask of what is made anew."""
    assert config.video is not None
    frames, _ = read_video(config.video, fps=size.fps, max_frames=size.num_frames)
    if len(frames) < size.num_frames:
        raise UserError(
            f"--video {config.video}: {len(frames)} frames at {size.fps:g} a second, the clip has "
            f"{size.num_frames}; make it shorter: --num-frames {_eights(len(frames))}"
        )
    if config.pad is not None:
        padding = Padding(*config.pad)
        pixels, mask = pad_video(frames, padding=padding, height=size.height, width=size.width)
        frames = ((pixels[0].transpose(1, 2, 3, 0) + 1) * 127.5).round().astype(np.uint8)
        return media._replace(source=frames, mask=mask)
    assert config.mask is not None
    mask = read_mask(
        config.mask,
        num_frames=size.num_frames,
        height=size.height,
        width=size.width,
        fps=size.fps,
    )
    return media._replace(source=frames, mask=mask)


def _with_sounds(config: GenerateConfig, media: Media, size: ClipSize, notes: list[str]) -> Media:
    seconds = size.num_frames / size.fps
    if config.reference_audio is not None:
        reference = Sound(*read_sound(config.reference_audio))
        media = media._replace(reference_sound=reference)
    if config.audio_file is not None:
        sound = _sound(config.audio_file, config.audio_start_time, seconds, notes)
        frozen = (*media.frozen, "audio") if config.audio_strength == 1 else media.frozen
        return media._replace(sound=sound, sound_strength=config.audio_strength, frozen=frozen)
    if media.region is not None and source_has_sound(config):
        assert config.video is not None
        before = (config.extend_before or 0) / size.fps
        sound = Sound(*read_sound(config.video, duration=seconds - before + MARGIN))
        silence = np.zeros((2, round(before * sound.rate)), np.float32)
        waveform = np.concatenate([silence, sound.waveform], axis=1)
        return media._replace(sound=_at_least(Sound(waveform, sound.rate), seconds))
    return media


def _sound(path: Path, start: float, seconds: float, notes: list[str]) -> Sound:
    sound = Sound(*read_sound(path, start=start, duration=seconds + MARGIN))
    length = sound.waveform.shape[1] / sound.rate
    if length > seconds + TOLERANCE:
        notes.append(f"{path}: cut to the clip's {seconds:.2f} s")
    elif length < seconds - TOLERANCE:
        notes.append(f"{path}: {length:.2f} s, the clip is {seconds:.2f} s: silence follows")
    return _at_least(sound, seconds)


def _at_least(sound: Sound, seconds: float) -> Sound:
    """The sound with silence behind it where it is shorter than the clip."""
    missing = max(round(seconds * sound.rate) - sound.waveform.shape[1], 0)
    return sound._replace(waveform=np.pad(sound.waveform, ((0, 0), (0, missing))))


def _eights(num_frames: int) -> int:
    return (num_frames - 1) // TIME_SCALE * TIME_SCALE + 1


def _multiple(side: int) -> int:
    return max(side // SPACE_SCALE, 1) * SPACE_SCALE
