"""What cannot be asked for together, and what has to be."""

from collections.abc import Iterator

from ltx_infer.config import TIME_SCALE, GenerateConfig
from ltx_infer.sampling.sigmas import DISTILLED

GUIDED = ("dev", "dev-two-stage", "dev-two-stage-hq", "keyframe", "t2a")
GUIDANCE = (
    "cfg_scale",
    "audio_cfg_scale",
    "cfg_rescale",
    "stg_scale",
    "stg_blocks",
    "modality_scale",
    "apg",
    "skip_step",
    "audio_skip_step",
    "negative_prompt",
)
PICTURES = (
    "image",
    "video_conditioning",
    "conditioning_attention_mask",
    "prefix_video",
    "suffix_video",
    "video",
    "mask",
    "pad",
)
REMADE = ("start_time", "end_time", "keep", "extend_after", "extend_before")


def faults(config: GenerateConfig) -> list[str]:
    """Every combination of flags that means nothing, as one line each."""
    return [*_by_pipeline(config), *_between_flags(config), *_of_sound(config)]


def _flags(fields: list[str]) -> str:
    return ", ".join(f"--{field.replace('_', '-')}" for field in fields)


def _by_pipeline(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    distilled = name in ("distilled", "ic-lora")
    if distilled and (fields := config.given(*GUIDANCE)):
        yield f"{_flags(fields)}: {name} has no guidance; --pipeline dev has"
    if distilled and (config.steps or 0) > len(DISTILLED) - 1:
        yield f"--steps {config.steps}: {name} has {len(DISTILLED) - 1} at most"
    if name == "dev-two-stage-hq" and config.stg_scale:
        yield "--stg-scale: dev-two-stage-hq has no spatio-temporal guidance"
    if name == "t2a" and (fields := config.given(*PICTURES, "audio_file", "height", "width")):
        yield f"{_flags(fields)}: t2a makes sound only"
    if name != "t2a" and config.output_path.suffix.lower() == ".wav":
        yield f"--output-path {config.output_path}: only --pipeline t2a writes a .wav"
    if name == "keyframe" and config.given("conditioning_mode"):
        yield "--conditioning-mode: keyframe takes every image as a guide"
    if config.video_conditioning and name != "ic-lora":
        yield f"--video-conditioning: {name} has no references; --pipeline ic-lora has"
    if config.skip_stage_2 and name != "ic-lora":
        yield f"--skip-stage-2: {name} has none to skip; --one-stage samples at full size"
    yield from _remade(config)


def _remade(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    if name not in ("retake", "extend"):
        if fields := config.given(*REMADE):
            yield f"{_flags(fields)}: {name} changes no clip; --pipeline retake and extend do"
        if config.video is not None and config.mask is None and config.pad is None:
            yield f"--video: {name} needs --mask or --pad with it, to know what to make anew"
        return
    if config.video is None:
        yield f"--pipeline {name} needs --video FILE"
    if fields := config.given("num_frames", "fps", "mask", "pad", "audio_file", "image"):
        yield f"{_flags(fields)}: {name} goes by --video"
    if name == "extend":
        if (config.extend_after is None) == (config.extend_before is None):
            yield "--pipeline extend needs --extend-after N or --extend-before N, one of them"
        if fields := config.given("start_time", "end_time", "keep"):
            yield f"{_flags(fields)}: for --pipeline retake"
    elif fields := config.given("extend_after", "extend_before"):
        yield f"{_flags(fields)}: for --pipeline extend"


def _between_flags(config: GenerateConfig) -> Iterator[str]:
    if config.mask is not None and config.pad is not None:
        yield "--mask and --pad: one of them"
    if (config.mask is not None or config.pad is not None) and config.video is None:
        yield "--mask and --pad are for a --video FILE"
    if config.conditioning_attention_mask is not None and not config.video_conditioning:
        yield "--conditioning-attention-mask is for a --video-conditioning FILE"
    if config.conditioning_mode == "replace":
        latents = [(image.frame + TIME_SCALE - 1) // TIME_SCALE for image in config.image]
        if len(set(latents)) < len(latents):
            yield "--conditioning-mode replace: two images fall on one latent frame"
    if config.pipeline not in GUIDED and config.given("max_batch_size"):
        yield f"--max-batch-size: {config.pipeline} has one pass a step"


def _of_sound(config: GenerateConfig) -> Iterator[str]:
    if config.audio and config.audio_file is not None:
        yield "--audio makes sound, --audio-file gives it: one of them"
    if config.audio_file is None and (fields := config.given("audio_start_time", "audio_strength")):
        yield f"{_flags(fields)}: for an --audio-file FILE"
    if config.reference_audio is not None and config.audio_file is not None:
        yield "--reference-audio is for sound that is made, --audio-file gives it"
    sounds = config.audio or config.audio_file is not None or config.reference_audio is not None
    if config.modality_scale != 1 and not sounds and config.pipeline in GUIDED:
        yield "--modality-scale needs sound: --audio"
