import pytest

from ltx_models.errors import UserError
from ltx_train.config.strategy import FirstFrame, Reference
from tests.train.config.conftest import VALID


def with_strategy(words: str) -> str:
    return VALID.replace("{name: flexible, video: {}}", words)


@pytest.mark.parametrize(
    ("override", "found", "note"),
    [
        (
            "optimization.optimizer_type=adamw8bit",
            None,
            "optimization.optimizer_type: adamw8bit ->",
        ),
        ("acceleration.load_text_encoder_in_8bit=true", None, "load_text_encoder_in_8bit: nothing"),
        (
            "acceleration.offload_optimizer_during_validation=true",
            None,
            "validation: nothing to do",
        ),
        ("data.num_dataloader_workers=0", None, "data.num_dataloader_workers: nothing to do"),
        (
            "acceleration.quantization=int8-quanto",
            ("quantization", "affine-8bit"),
            "-> affine-8bit",
        ),
        (
            "acceleration.quantization=int4-quanto",
            ("quantization", "affine-4bit"),
            "-> affine-4bit",
        ),
        (
            "acceleration.quantization=int2-quanto",
            ("quantization", "affine-2bit"),
            "-> affine-2bit",
        ),
        ("acceleration.quantization=fp8-quanto", ("quantization", "mxfp8"), "-> mxfp8"),
        ("acceleration.quantization=fp8uz-quanto", ("quantization", "mxfp8"), "-> mxfp8"),
        (
            "acceleration.mixed_precision_mode=fp16",
            ("mixed_precision_mode", "bf16"),
            "fp16 -> bf16",
        ),
        (
            "acceleration.mixed_precision_mode=null",
            ("mixed_precision_mode", "bf16"),
            "null -> bf16",
        ),
        ("checkpoints.keep_last_n=0", None, "checkpoints.keep_last_n: 0 -> -1: all are kept"),
        ("model.training_mode=full", None, "lora: not used, as model.training_mode is full"),
    ],
)
def test_what_cuda_has_becomes_what_mlx_has_and_a_line_says_so(read, override, found, note):
    config, notes = read(override)
    assert [note in line for line in notes] == [True]
    if found is not None:
        assert getattr(config.acceleration, found[0]) == found[1]


@pytest.mark.parametrize(
    "override",
    [
        "optimization.optimizer_type=adamw",
        "acceleration.load_text_encoder_in_8bit=false",
        "acceleration.mixed_precision_mode=bf16",
        "model.video_vae_path=tiny",
        "model.audio_vae_path=null",
    ],
)
def test_what_is_so_anyway_takes_no_line(read, override):
    assert read(override) == (read().config, [])


@pytest.mark.parametrize("word", ["no", "'no'"])
def test_no_is_a_word(read, word):
    """YAML 1.1 reads it as false."""
    config, notes = read(f"acceleration.mixed_precision_mode={word}")
    assert (config.acceleration.mixed_precision_mode, notes) == ("no", [])


def test_text_to_video(read):
    config, (note,) = read(text=with_strategy("{name: text_to_video, with_audio: true}"))
    strategy = config.training_strategy
    assert (strategy.name, strategy.shared_sigma) == ("flexible", True)
    assert strategy.video.latents_dir == "latents"
    assert strategy.video.conditions == (FirstFrame(probability=0.1),)
    assert strategy.audio.latents_dir == "audio_latents"
    assert strategy.audio.conditions == ()
    assert note == "training_strategy: text_to_video -> flexible, with one noise level for all"


def test_text_to_video_without_sound_or_first_frames(read):
    text = with_strategy("{name: text_to_video, first_frame_conditioning_p: 0}")
    strategy = read(text=text).config.training_strategy
    assert (strategy.audio, strategy.video.conditions) == (None, ())


def test_no_strategy_is_text_to_video(read):
    gone = read(text=VALID.replace("training_strategy", "# "))
    assert gone == read(text=with_strategy("{name: text_to_video}"))
    assert gone == read(text=with_strategy("{}"))


def test_video_to_video(read):
    text = with_strategy("{name: video_to_video, reference_latents_dir: r}")
    strategy = read(text=text).config.training_strategy
    assert strategy.video.conditions == (Reference(latents_dir="r"), FirstFrame(probability=0.1))
    assert (strategy.audio, strategy.shared_sigma) == (None, True)


def test_prompts_and_their_files_become_samples(read):
    config, (note,) = read(
        "validation.prompts=[a, b]",
        "validation.images=[1.png, 2.png]",
        "validation.reference_videos=[1.mp4, 2.mp4]",
        "validation.reference_downscale_factor=2",
        "validation.include_reference_in_output=true",
    )
    second = config.validation.samples[1]
    assert (second.prompt, second.conditions[0].image_or_video) == ("b", "2.png")
    reference = second.conditions[1]
    assert (reference.video, reference.downscale_factor) == ("2.mp4", 2)
    assert reference.include_in_output
    assert note == "validation.prompts -> 2 validation.samples"


def test_older_keys_without_use_are_said(read):
    config, notes = read("validation={prompts: [a], samples: [{prompt: b}]}")
    assert [sample.prompt for sample in config.validation.samples] == ["b"]
    assert notes == ["validation.prompts: not used, as there are samples"]
    _, (note,) = read("validation.reference_downscale_factor=2")
    assert note.startswith("validation.reference_downscale_factor: not used")


@pytest.mark.parametrize(
    ("given", "scales"),
    [
        ("{guidance_scale: 4}", (4, 4, 1, 1)),
        ("{stg_scale: 2}", (3, 7, 2, 2)),
        ("{stg_mode: stg_v}", (3, 7, 1, 0)),
        ("{stg_scale: 0.5, stg_mode: stg_av, guidance_scale: 2}", (2, 2, 0.5, 0.5)),
    ],
)
def test_one_scale_becomes_one_for_each(read, given, scales):
    config, notes = read(f"validation={given}")
    found = config.validation
    assert scales == (
        found.video_cfg_scale,
        found.audio_cfg_scale,
        found.video_stg_scale,
        found.audio_stg_scale,
    )
    assert len(notes) == 1


V2V = "{name: video_to_video}"
BAD = [
    (V2V, "model.training_mode=full", "model.training_mode: video_to_video trains a LoRA"),
    (V2V, "validation.samples=[{prompt: a}]", "validation.samples: video_to_video needs one with"),
    (V2V, "validation.prompts=[a]", "validation.samples: video_to_video needs one with"),
    (V2V, "training_strategy.with_audio=true", "training_strategy.with_audio: unknown key"),
    ("{name: text_to_video}", "training_strategy.first_frame_conditioning_p=2", "_p: Input should"),
    ("{video: {}}", "optimization.optimizer_type=lion", "optimization.optimizer_type: Input shoul"),
    ("{video: {}}", "acceleration.mixed_precision_mode=fp8", "mixed_precision_mode: Input should"),
    ("{video: {}}", "data.num_dataloader_workers=-1", "data.num_dataloader_workers: Input should"),
    (
        "{video: {}}",
        "model.video_vae_path=v.safetensors",
        "model.video_vae_path: only models in one",
    ),
    ("{video: {}}", "validation.images=[a.png]", "validation.images: 1 for 0 prompts"),
    ("{video: {}}", "validation={guidance_scale: 3, video_cfg_scale: 3}", "not go with video_cfg"),
    (
        "{video: {}}",
        "validation={stg_mode: stg_v, audio_stg_scale: 1}",
        "validation.stg_mode: an ol",
    ),
    ("{video: {}}", "validation.stg_mode=stg", "validation.stg_mode: Input should be 'stg_av'"),
]


@pytest.mark.parametrize(("strategy", "override", "said"), BAD)
def test_what_has_no_equivalent_is_an_error(read, strategy, override, said):
    with pytest.raises(UserError) as error:
        read(override, text=with_strategy(strategy))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("given", ["validation.interval=null", "validation.reference_videos=[v]"])
def test_video_to_video_needs_references_only_where_it_validates(read, given):
    config = read(given, "validation.prompts=[a]", text=with_strategy(V2V)).config
    assert len(config.validation.samples) == 1


def test_all_weights_are_trained_without_an_adapter_whatever_the_file_has(read):
    assert read("model.training_mode=lora").config.lora is not None
    assert read("model.training_mode=full").config.lora is None
