import pytest

from ltx_models.errors import UserError
from ltx_train.config import TrainConfig
from tests.train.config.conftest import VALID

# Section by section the public trainer's (spec/training.md 1.1), and after the bar our additions.
DEFAULTS = {
    "model": "text_encoder_path=None training_mode=lora load_checkpoint=None | "
    "allow_distilled=False allow_unknown_config=()",
    "lora": "rank=64 alpha=64 dropout=0.0 target_modules=('to_k', 'to_q', 'to_v', 'to_out.0') | "
    "quantization_aware=False",
    "training_strategy": "name=flexible video=None audio=None | "
    "shared_sigma=False caption_dropout=0.0",
    "optimization": "learning_rate=0.0005 steps=3000 batch_size=2 gradient_accumulation_steps=1 "
    "max_grad_norm=1.0 scheduler_type=linear scheduler_params={} "
    "enable_gradient_checkpointing=False | warmup_steps=0 ema_decay=None",
    "acceleration": "mixed_precision_mode=bf16 quantization=None |",
    "data": "| trigger=None",
    "validation": "samples=() negative_prompt=None video_dims=(960, 544, 89) frame_rate=24.0 "
    "seed=42 inference_steps=30 interval=100 video_cfg_scale=3.0 audio_cfg_scale=7.0 "
    "video_stg_scale=1.0 audio_stg_scale=1.0 stg_blocks=(28,) guidance_rescale=0.7 "
    "video_modality_guidance_scale=3.0 audio_modality_guidance_scale=3.0 generate_audio=True "
    "generate_video=True skip_initial_validation=False | holdout=0.0",
    "checkpoints": "interval=None keep_last_n=1 precision=bfloat16 no_resume=False "
    "save_training_state=full | best=False",
    "hub": "push_to_hub=False hub_model_id=None |",
    "flow_matching": "timestep_sampling_mode=shifted_logit_normal timestep_sampling_params={} |",
    "wandb": "enabled=False project=ltxv-trainer entity=None tags=() log_validation_videos=True |",
}


def section(name: str):
    return next(
        kind
        for kind in (TrainConfig.model_fields[name].annotation,)
        for kind in getattr(kind, "__args__", (kind,))
        if kind is not type(None)
    )


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_the_public_trainers(name):
    fields = {
        key: field.get_default(call_default_factory=True)
        for key, field in section(name).model_fields.items()
        if not field.is_required()
    }
    said = DEFAULTS[name].replace(" |", "").replace("| ", "")
    assert sorted(said) == sorted(" ".join(f"{key}={value}" for key, value in fields.items()))
    assert all(f"{key}={value}" in said for key, value in fields.items())


def test_every_section_is_in_that_table():
    assert DEFAULTS.keys() == TrainConfig.model_fields.keys() - {"seed", "output_dir"}
    assert TrainConfig.model_fields["seed"].default == 42
    assert TrainConfig.model_fields["output_dir"].default == "outputs"


def test_nothing_can_be_changed_later(read):
    config = read().config
    with pytest.raises(ValueError, match="frozen"):
        config.lora.rank = 3


def test_warm_up_grows_to_the_schedules_rate(read):
    steps = ["optimization.steps=6", "optimization.learning_rate=1"]
    constant = "optimization.scheduler_type=constant"
    rates = read(*steps, constant, "optimization.warmup_steps=3").config.optimization
    assert rates.learning_rates() == [0.25, 0.5, 0.75, 1, 1, 1]
    plain = read(*steps).config.optimization.learning_rates()
    warm = read(*steps, "optimization.warmup_steps=2").config.optimization.learning_rates()
    assert warm[2:] == plain[2:]


@pytest.mark.parametrize(("holdout", "held"), [(0, 0), (0.1, 2), (0.001, 1), (1, 1), (3, 3)])
def test_samples_held_back(read, holdout, held):
    config = read(f"validation.holdout={holdout}").config
    assert config.validation.num_held_out(20) == held


@pytest.mark.parametrize(
    ("asked", "bits", "mode"),
    [
        ("affine-3bit", 3, "affine"),
        ("affine-6bit", 6, "affine"),
        ("mxfp8", 8, "mxfp8"),
        ("nvfp4", 4, "nvfp4"),
        ("null", None, "affine"),
    ],
)
def test_quantisation_in_mlx_words(read, asked, bits, mode):
    acceleration = read(f"acceleration.quantization={asked}").config.acceleration
    assert (acceleration.bits, acceleration.mode) == (bits, mode)


SAMPLE = "validation.samples.0={prompt: a, conditions: [%s]}"
BAD = [
    ("lora.rnak=4", "lora.rnak: unknown key; did you mean 'rank'?"),
    ("lora.r=4", "lora.r: unknown key; known are rank, alpha, dropout, target_m"),
    ("optimisation.steps=4", "optimisation: unknown key; did you mean 'optimization'?"),
    ("optimization.optimizer_typ=x", "optimizer_typ: unknown key; did you mean 'optimizer_type'?"),
    ("validation.promts=[a]", "validation.promts: unknown key; did you mean 'prompts'?"),
    ("model.model_path=https://x.y/z", "model.model_path: a file or folder is wanted, not an add"),
    ("model.training_mode=dora", "model.training_mode: Input should be 'lora' or 'full'"),
    ("lora=null", "lora: is required when model.training_mode is lora"),
    ("lora.rank=1", "lora.rank: Input should be greater than or equal to 2, got 1"),
    ("lora.rank=8.5", "lora.rank: Input should be a valid integer"),
    ("lora.rank=true", "lora.rank: Input should be a valid integer, got True"),
    ("lora.dropout=1", "lora.dropout: Input should be less than 1"),
    (
        "lora={dropout: 0.1, quantization_aware: true}",
        "lora.dropout: does not go with quantization_aware",
    ),
    ("lora.target_modules=[]", "lora.target_modules: Tuple should have at least 1 item"),
    ("lora.target_modules=to_q", "lora.target_modules: Input should be a valid"),
    ("lora.target_modules=[a, 3]", "lora.target_modules.1: Input should be a valid string"),
    ("optimization.steps=0", "optimization.steps: Input should be greater"),
    ("optimization.learning_rate=.nan", "optimization.learning_rate: Input should be"),
    ("optimization.learning_rate=fast", "optimization.learning_rate: Input should be a valid num"),
    ("optimization.warmup_steps=20", "optimization.warmup_steps: fewer than steps, 20, are want"),
    ("optimization.ema_decay=1", "optimization.ema_decay: Input should be less than 1"),
    (
        "optimization.scheduler_params={power: 2}",
        "optimization.scheduler_params: linear has no 'power'; it has start_factor, end_factor",
    ),
    ("optimization.scheduler_params={power: x}", "optimization.scheduler_params.power: Input shou"),
    ("optimization.scheduler_params={end_factor: -1}", "they give a rate that is no number"),
    ("optimization.scheduler_type=warm", "optimization.scheduler_type: Input should be 'con"),
    (
        "flow_matching.timestep_sampling_params={mean: 1}",
        "flow_matching.timestep_sampling_params: shifted_logit_normal has no 'mean'; it has std",
    ),
    ("flow_matching.timestep_sampling_params={std: 0}", "noise levels outside [0, 1]"),
    ("acceleration.quantization=int3", "acceleration.quantization: Input should be 'affine-2bit'"),
    ("data.preprocessed_data_root=", "data.preprocessed_data_root: is required; only --debug"),
    ("checkpoints.keep_last_n=-2", "checkpoints.keep_last_n: Input should be greater than or eq"),
    ("checkpoints.best=true", "checkpoints.best: goes by the loss of validation.holdout"),
    ("checkpoints={best: true, interval: 0}", "checkpoints.interval: Input should be greater"),
    ("hub.push_to_hub=true", "hub.hub_model_id: is required to push to the hub, as user/name"),
    ("seed=-1", "seed: Input should be greater than or equal to 0"),
    # what is learnt from what
    ("training_strategy.name=text2video", "training_strategy.name: Input should be 'flexible'"),
    ("training_strategy.video.is_generated=false", "training_strategy: nothing is generated"),
    ("training_strategy.video.loss_weight=0", "training_strategy: the loss_weight of all that"),
    ("training_strategy.vidio={}", "training_strategy.vidio: unknown key; did you mean 'video'?"),
    (
        "training_strategy.video.conditions=[{type: prefix}]",
        "training_strategy.video.conditions.0.temporal_boundary: is required",
    ),
    (
        "training_strategy.video.conditions=[{type: suffix, temporal_boundary: 0}]",
        "training_strategy.video.conditions.0.temporal_boundary: Input should be greater than or",
    ),
    (
        "training_strategy.video.conditions=[{type: firstframe}]",
        "conditions.0.type: unknown 'firstframe'; did you mean 'first_frame'?",
    ),
    ("training_strategy.video.conditions=[{}]", "video.conditions.0.type: is required"),
    (
        "training_strategy.video.conditions=[{type: first_frame, probabillity: 1}]",
        "conditions.0.probabillity: unknown key; did you mean 'probability'?",
    ),
    (
        "training_strategy.video.conditions=[{type: first_frame, probability: 1.5}]",
        "training_strategy.video.conditions.0.probability: Input should be less than or equal to 1",
    ),
    (
        "training_strategy.video.conditions=[{type: spatial_crop, spatial_region: [0, 8, 4, 8]}]",
        "training_strategy.video.conditions.0.spatial_region: (y1, x1, y2, x2) with y1 < y2",
    ),
    (
        "training_strategy.audio.conditions=[{type: mask, mask_dir: m}, {type: first_frame}]",
        "training_strategy.audio.conditions.1: sound takes no first_frame, only prefix, suffix",
    ),
    (
        "training_strategy.audio={is_generated: false, conditions: [{type: mask, mask_dir: m}]}",
        "training_strategy.audio.conditions.0: mask gives a part of what is generated",
    ),
    (
        "training_strategy.video.conditions=[{type: reference, latents_dir: latents}]",
        "training_strategy: the folder 'latents' is named twice; each holds one thing",
    ),
    ("training_strategy.caption_dropout=2", "training_strategy.caption_dropout: Input should be"),
    # validation
    ("validation.video_dims=[960, 540, 89]", "validation.video_dims: width and height are multip"),
    ("validation.video_dims=[960, 544, 88]", "frames a multiple of 8 plus 1, got 960, 544, 88"),
    ("validation.video_cfg_scale=0.5", "validation.video_cfg_scale: Input should be greater than"),
    ("validation.guidance_rescale=2", "validation.guidance_rescale: Input should be less than or"),
    ("validation.interval=0", "validation.interval: Input should be greater than or equal to 1"),
    ("validation.holdout=2.5", "validation.holdout: a share below 1 or a number of samples"),
    ("validation.samples=[{}]", "validation.samples.0.prompt: is required"),
    (
        "validation={samples: [{prompt: a}], generate_audio: false, generate_video: false}",
        "validation.generate_video: without it and generate_audio there is nothing to make",
    ),
    (SAMPLE % "{type: prefix, duration: 1}", "conditions.0: either video or audio is wanted"),
    (
        SAMPLE % "{type: prefix, video: v, audio: a}",
        "validation.samples.0.conditions.0: either video or audio is wanted",
    ),
    (SAMPLE % "{type: prefix, video: v, num_frames: 8}", "num_frames: a multiple of 8 plus 1, got"),
    (SAMPLE % "{type: suffix, video: v, num_frames: 9}", "num_frames: a multiple of 8, got 9"),
    (SAMPLE % "{type: suffix, audio: a, num_frames: 8}", "num_frames: goes with video"),
    (SAMPLE % "{type: prefix, video: v, duration: 1}", "duration: goes with audio"),
    (SAMPLE % "{type: mask, video: v}", "validation.samples.0.conditions.0.mask: is required"),
    (SAMPLE % "{type: reference, video: v, scale: 2}", "conditions.0.scale: unknown key; "),
    (
        SAMPLE % "{type: video_to_audio, video: v}, {type: audio_to_video, audio: a}",
        "validation.samples.0.conditions: video_to_audio and audio_to_video leave nothing to make",
    ),
    (
        SAMPLE % "{type: video_to_audio, video: v}, {type: first_frame, image_or_video: i}",
        "validation.samples.0.conditions.1: first_frame gives a part of the video, but all of it",
    ),
    (
        SAMPLE % "{type: reference, audio: a}, {type: audio_to_video, audio: a}",
        "validation.samples.0.conditions.0: reference gives a part of the audio, but all of it",
    ),
]


@pytest.mark.parametrize(("override", "said"), BAD, ids=[override for override, _ in BAD])
def test_bad_values_are_named_by_their_path(read, override, said):
    with pytest.raises(UserError) as error:
        read(override, text=VALID + "seed: 1\n")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_integers_are_not_trained(read):
    overrides = ["model.training_mode=full", "lora=null", "acceleration.quantization=affine-4bit"]
    with pytest.raises(UserError, match=r"acceleration\.quantization: model\.training_mode full"):
        read(*overrides)
