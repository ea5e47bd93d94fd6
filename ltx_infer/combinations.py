"""What cannot be asked for together, and what has to be: nothing that is asked for is ignored."""

from collections.abc import Iterator, Sequence

from ltx_infer.config import TIME_SCALE, GenerateConfig
from ltx_infer.sampling.sigmas import DISTILLED

GUIDED = ("dev", "dev-two-stage", "dev-two-stage-hq", "keyframe", "t2a")
CHANGING = ("retake", "extend")  # guided where the weights are dev
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
BY_THE_CLIP = (
    "num_frames",
    "fps",
    "mask",
    "pad",
    "audio_file",
    "image",
    "prefix_video",
    "suffix_video",
)
DECODED = ("output_audio", "save_frames", "preview", "tiling", "stream")
OF_PICTURES = ("height", "width", "temporal_upscale", "tiling", "stream")
OF_SOUND = ("audio_cfg_scale", "audio_skip_step")
HQ_STRENGTHS = ("lora_strength_stage_1", "lora_strength_stage_2")


def faults(config: GenerateConfig) -> list[str]:
    """Every combination of flags that means nothing, as one line each."""
    return [
        *_by_pipeline(config),
        *_of_stages(config),
        *_of_changed_clips(config),
        *_between_flags(config),
        *_of_prompts(config),
        *_of_sound(config),
        *_of_outputs(config),
    ]


def flags(fields: Sequence[str]) -> str:
    """Fields by the names of their flags."""
    return ", ".join(f"--{field.replace('_', '-')}" for field in fields)


def _by_pipeline(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    distilled = name in ("distilled", "ic-lora")
    if distilled and (fields := config.given(*GUIDANCE)):
        yield f"{flags(fields)}: {name} has no guidance; --pipeline dev has"
    if distilled and config.given("max_batch_size"):
        yield f"--max-batch-size: {name} has one pass a step"
    if distilled and (config.steps or 0) > len(DISTILLED) - 1:
        yield f"--steps {config.steps}: {name} has {len(DISTILLED) - 1} at most"
    if name == "dev-two-stage-hq" and (fields := config.given("stg_scale", "stg_blocks")):
        yield f"{flags(fields)}: dev-two-stage-hq has no spatio-temporal guidance"
    if name == "keyframe" and config.given("conditioning_mode"):
        yield "--conditioning-mode: keyframe takes every image as a guide"
    if config.video_conditioning and name != "ic-lora":
        yield f"--video-conditioning: {name} has no references; --pipeline ic-lora has"
    if name == "t2a":
        if fields := config.given(*PICTURES, "audio_file", *OF_PICTURES):
            yield f"{flags(fields)}: t2a makes sound only"
        if fields := config.given("cfg_scale", "skip_step", "modality_scale"):
            yield f"{flags(fields)}: t2a has no picture; {flags(OF_SOUND)} are for its sound"


def _of_stages(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    if config.skip_stage_2 and name != "ic-lora":
        yield f"--skip-stage-2: {name} has none to skip; --one-stage samples at full size"
    elif config.skip_stage_2 and config.one_stage:
        yield "--skip-stage-2 and --one-stage: one of them"
    if config.given("spatial_upscaler") and not config.two_stages:
        yield "--spatial-upscaler: there is no second stage to upscale for"
    if name != "dev-two-stage-hq" and (fields := config.given(*HQ_STRENGTHS)):
        yield f"{flags(fields)}: for --pipeline dev-two-stage-hq"
    if name == "dev-two-stage-hq" and config.given("lora_strength") and not config.lora:
        yield f"--lora-strength: dev-two-stage-hq takes {flags(HQ_STRENGTHS)} for its own LoRA"
    if name == "dev-two-stage-hq" and config.one_stage and config.given(HQ_STRENGTHS[1]):
        yield f"{flags(HQ_STRENGTHS[1:])}: --one-stage leaves that stage out"


def _of_changed_clips(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    if name not in CHANGING:
        if fields := config.given(*REMADE):
            yield f"{flags(fields)}: {name} changes no clip; --pipeline retake and extend do"
        if config.video is not None and config.mask is None and config.pad is None:
            yield f"--video: {name} needs --mask or --pad with it, to know what to make anew"
        return
    if config.video is None:
        yield f"--pipeline {name} needs --video FILE"
    if fields := config.given(*BY_THE_CLIP):
        yield f"{flags(fields)}: {name} goes by --video"
    if name == "extend":
        if (config.extend_after is None) == (config.extend_before is None):
            yield "--pipeline extend needs --extend-after N or --extend-before N, one of them"
        if fields := config.given("start_time", "end_time", "keep"):
            yield f"{flags(fields)}: for --pipeline retake"
    elif fields := config.given("extend_after", "extend_before"):
        yield f"{flags(fields)}: for --pipeline extend"


def _between_flags(config: GenerateConfig) -> Iterator[str]:
    if config.mask is not None and config.pad is not None:
        yield "--mask and --pad: one of them"
    if (config.mask is not None or config.pad is not None) and config.video is None:
        yield "--mask and --pad are for a --video FILE"
    if config.conditioning_attention_mask is not None and not config.video_conditioning:
        yield "--conditioning-attention-mask is for a --video-conditioning FILE"
    if not config.image and (fields := config.given("image_strength", "conditioning_mode")):
        yield f"{flags(fields)}: for an --image FILE"
    if config.conditioning_mode == "replace":
        latents = [(image.frame + TIME_SCALE - 1) // TIME_SCALE for image in config.image]
        if len(set(latents)) < len(latents):
            yield "--conditioning-mode replace: two images fall on one latent frame"
    if config.stg_blocks is not None and not config.stg_scale:
        yield "--stg-blocks: for an --stg-scale above 0"
    if config.low_memory and config.lora_mode == "fuse":
        yield "--lora-mode fuse: --low-memory reads weights anew each time; attach goes with it"
    if config.lora_fuse_anyway and config.lora_mode != "fuse":
        yield "--lora-fuse-anyway: for --lora-mode fuse"


def _of_prompts(config: GenerateConfig) -> Iterator[str]:
    if config.embedding is not None and config.dummy_embeddings:
        yield "--embedding and --dummy-embeddings: one of them"
    if config.embedding is not None and (fields := config.given("prompt", "negative_prompt")):
        yield f"{flags(fields)}: --embedding has its own"
    if config.reads_prompts:
        return
    name = "--dummy-embeddings" if config.dummy_embeddings else "--embedding"
    if config.enhance_prompt:
        yield f"--enhance-prompt: there is no text encoder with {name}"
    if config.text_encoder_repo is not None:
        yield f"--text-encoder-repo: none is read with {name}"


def _of_outputs(config: GenerateConfig) -> Iterator[str]:
    name, output = config.pipeline, config.output_path
    if config.skip_vae and (fields := config.given(*DECODED)):
        yield f"{flags(fields)}: --skip-vae decodes nothing"
    if name == "t2a" and (fields := config.given("save_frames", "output_audio")):
        yield f"{flags(fields)}: t2a makes a sound only, which is the output"
    if output.suffix.lower() == ".png" and not config.skip_vae:
        if name in CHANGING:
            yield f"--output-path {output}: a .png has one frame; for {name} name a .mp4"
        elif config.num_frames != 1:
            yield f"--output-path {output}: a .png has one frame; --num-frames 1, or name a .mp4"


def _of_sound(config: GenerateConfig) -> Iterator[str]:
    name = config.pipeline
    if config.audio and config.audio_file is not None:
        yield "--audio makes sound, --audio-file gives it: one of them"
    if config.audio_file is None and (fields := config.given("audio_start_time", "audio_strength")):
        yield f"{flags(fields)}: for an --audio-file FILE"
    if config.reference_audio is not None and config.audio_file is not None:
        yield "--reference-audio is for sound that is made, --audio-file gives it"
    if name not in GUIDED or name == "t2a":
        return
    if not (config.audio or config.audio_file is not None or config.reference_audio is not None):
        if fields := config.given(*OF_SOUND):
            yield f"{flags(fields)}: for sound, which --audio makes"
        if config.modality_scale != 1:
            yield "--modality-scale needs sound: --audio"
    elif config.sound_is_kept and (fields := config.given(*OF_SOUND)):
        yield f"{flags(fields)}: the sound is given; for an --audio-strength below 1"
