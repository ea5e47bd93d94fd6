"""Files in the public trainer's full form, every key written out, as its 16 are (1.1 and 1.2)."""

import pytest

ALL = ["to_k", "to_q", "to_v", "to_out.0"]


def of(*blocks: str, ff: str = "") -> list[str]:
    return [f"{block}.{end}" for block in blocks for end in ALL] + (
        [f"{ff}.net.0.proj", f"{ff}.net.2"] if ff else []
    )


PICTURE, SOUND = of("attn1", "attn2"), of("audio_attn1", "audio_attn2", ff="audio_ff")
VIDEO = "video: {is_generated: true, latents_dir: latents%s}"
AUDIO = "audio: {is_generated: true, latents_dir: audio_latents%s}"
FROZEN_VIDEO = VIDEO.replace("true", "false") % ""
FROZEN_AUDIO = AUDIO.replace("true", "false") % ""
BOTH = f"{VIDEO % ''}, {AUDIO % ''}"


def given(*conditions: str) -> str:
    return f", conditions: [{', '.join(conditions)}]"


REFERENCE = "{type: reference, latents_dir: reference_latents, probability: 1.0}"
SOUND_REFERENCE = "{type: reference, latents_dir: reference_audio_latents, probability: 1.0}"
PREFIX = "{type: prefix, temporal_boundary: 8, probability: 1.0}"
SUFFIX = PREFIX.replace("prefix", "suffix")
CROP = "{type: spatial_crop, spatial_region: [0, 0, 288, 576], probability: 1.0}"
FIRST = "{type: first_frame, probability: %s}"
KINDS = {  # streams, targets, the condition of a validation sample
    "t2v": (BOTH, ALL, ""),
    "t2v_low_vram": (BOTH, ALL, ""),
    "i2v": (
        f"{VIDEO % given(FIRST % 0.5)}, {AUDIO % ''}",
        ALL,
        "{type: first_frame, image_or_video: /a/still.png}",
    ),
    "a2v": (f"{VIDEO % ''}, {FROZEN_AUDIO}", ALL, "{type: audio_to_video, audio: /a/sound.wav}"),
    "v2a": (
        f"{FROZEN_VIDEO}, {AUDIO % ''}",
        SOUND + of("video_to_audio_attn"),
        "{type: video_to_audio, video: /a/clip.mp4}",
    ),
    "t2a": (AUDIO % "", SOUND, ""),
    "video_extend": (
        f"{VIDEO % given(PREFIX)}, {AUDIO % ''}",
        ALL,
        "{type: prefix, video: /a/clip.mp4, num_frames: 57}",
    ),
    "video_suffix": (
        f"{VIDEO % given(SUFFIX)}, {AUDIO % ''}",
        ALL,
        "{type: suffix, video: /a/clip.mp4, num_frames: 64}",
    ),
    "video_inpainting": (
        VIDEO % given("{type: mask, mask_dir: video_masks, probability: 1.0}"),
        PICTURE,
        "{type: mask, video: /a/clip.mp4, mask: /a/mask.mp4}",
    ),
    "video_outpainting": (
        VIDEO % given(CROP),
        PICTURE,
        "{type: spatial_crop, video: /a/clip.mp4, spatial_region: [0, 0, 288, 576]}",
    ),
    "v2v_ic": (
        VIDEO % given(REFERENCE, FIRST % 0.2),
        of("attn1", "attn2", ff="ff"),
        "{type: reference, video: /a/r.mp4, downscale_factor: 1, temporal_scale_factor: 1, "
        "include_in_output: true}",
    ),
    "av2av_ic": (
        f"{VIDEO % given(REFERENCE)}, {AUDIO % given(SOUND_REFERENCE)}",
        ALL,
        "{type: reference, video: /a/r.mp4, include_in_output: true}, "
        "{type: reference, audio: /a/r.wav}",
    ),
    "audio_extend": (
        AUDIO % given(PREFIX),
        SOUND,
        "{type: prefix, audio: /a/sound.wav, duration: 1.0}",
    ),
    "audio_suffix": (
        AUDIO % given(SUFFIX),
        SOUND,
        "{type: suffix, audio: /a/sound.wav, duration: 1.0}",
    ),
    "audio_inpainting": (
        AUDIO % given("{type: mask, mask_dir: audio_masks, probability: 1.0}"),
        SOUND,
        "{type: mask, audio: /a/sound.wav, mask: /a/mask.pt}",
    ),
    "a2a_ic": (
        AUDIO % given(SOUND_REFERENCE),
        SOUND,
        "{type: reference, audio: /a/r.wav}",
    ),
}
FULL = """\
model:
  model_path: "/a/model.safetensors"
  text_encoder_path: "/a/gemma"
  training_mode: "lora"
  load_checkpoint: null
lora: {{rank: {rank}, alpha: {rank}, dropout: 0.0, target_modules: {targets}}}
training_strategy: {{name: "flexible", {streams}}}
optimization:
  learning_rate: {rate}
  steps: {steps}
  batch_size: 1
  gradient_accumulation_steps: 1
  max_grad_norm: 1.0
  optimizer_type: "adamw{eight}"
  scheduler_type: "linear"
  scheduler_params: {{ }}
  enable_gradient_checkpointing: true
acceleration:
  mixed_precision_mode: "bf16"
  quantization: {quantization}
  load_text_encoder_in_8bit: {low}
  offload_optimizer_during_validation: {low}
data: {{preprocessed_data_root: "/a/data", num_dataloader_workers: 2}}
validation:
  samples:
    - prompt: >-
        Rain falls on a tin roof
        while somebody hums.
      conditions: [{condition}]
  negative_prompt: >-
    dull, noise
  video_dims: {dims}
  frame_rate: 24.0
  seed: 42
  inference_steps: 30
  interval: 100
  video_cfg_scale: 3.0
  audio_cfg_scale: 7.0
  video_stg_scale: 1.0
  audio_stg_scale: 1.0
  stg_blocks: [28]
  guidance_rescale: 0.7
  video_modality_guidance_scale: 3.0
  audio_modality_guidance_scale: 1.0
  generate_audio: true
  generate_video: {picture}
  skip_initial_validation: false
checkpoints: {{interval: 250, keep_last_n: {keep}, precision: "bfloat16"}}
flow_matching: {{timestep_sampling_mode: "shifted_logit_normal", timestep_sampling_params: {{ }}}}
hub: {{push_to_hub: false, hub_model_id: null}}
wandb:
  enabled: false
  project: "ltx-2-trainer"
  entity: null
  tags: [ "ltx2", "lora" ]
  log_validation_videos: true
seed: 42
output_dir: "outputs/run"
"""
SAID = ["data.num_dataloader_workers"]
LOW_SAID = [
    "optimization.optimizer_type",
    "acceleration.load_text_encoder_in_8bit",
    "acceleration.offload_optimizer_during_validation",
    "data.num_dataloader_workers",
    "acceleration.quantization",
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_unchanged(read, kind):
    streams, targets, condition = KINDS[kind]
    low, slow = kind == "t2v_low_vram", "ic" not in kind and "audio" not in kind and kind != "t2a"
    text = FULL.format(
        rank=16 if low else 32,
        targets=targets,
        streams=streams,
        rate="1e-4" if slow else "2e-4",
        steps=2000 if slow else 3000,
        keep=-1 if slow else 3,
        eight="8bit" if low else "",
        quantization="int8-quanto" if low else "null",
        low=str(low).lower(),
        condition=condition,
        dims="[576, 576, 49]" if low else "[ 960, 544, 89 ]",
        picture=str("video" in streams).lower(),
    )
    config, notes = read(text=text)
    assert [note.split(":")[0] for note in notes] == (LOW_SAID if low else SAID)
    assert config.lora.target_modules == tuple(targets)
    assert config.optimization.learning_rate == (1e-4 if slow else 2e-4)
    assert config.acceleration.quantization == ("affine-8bit" if low else None)
    strategy = config.training_strategy
    assert [strategy.video is None, strategy.audio is None] == [
        "video:" not in streams,
        "audio:" not in streams,
    ]
    assert not strategy.shared_sigma
    assert len(config.validation.samples[0].conditions) == condition.count("type:")


def test_there_are_sixteen():
    assert len(KINDS) == 16
