import pytest

from ltx_infer.sampling.sigmas import DISTILLED, shifted
from ltx_models.errors import UserError
from ltx_train.validation.samples import is_due, plan_samples, reference_notes
from tests.train.validation.conftest import config, sample

VIDEO, AUDIO = {"name": "flexible", "video": {}}, {"name": "flexible", "audio": {}}
PICTURE_SCALE, SOUND_SCALE = (f"{name}_modality_guidance_scale" for name in ("video", "audio"))


def plan(models, **given):
    variant = given.pop("variant", None)
    plans, notes = plan_samples(config(**given), models, variant=variant)
    return plans[0], notes


def test_when_there_is_a_validation():
    every = config(interval=2).validation
    assert [step for step in range(6) if is_due(every, step)] == [0, 2, 4]
    later = config(interval=2, skip_initial_validation=True).validation
    assert [step for step in range(6) if is_due(later, step)] == [2, 4]
    assert not is_due(config(interval=None).validation, 0)


def test_scales_and_levels_are_the_configurations(models):
    scales = {"video_cfg_scale": 2, "audio_cfg_scale": 4, "video_stg_scale": 0.5}
    made, notes = plan(models, samples=sample(), **scales, guidance_rescale=0.25)
    (stage,) = made.recipe.stages
    assert stage.sigmas == shifted(2)
    video, audio = stage.guidance["video"], stage.guidance["audio"]
    assert (video.cfg, video.stg, video.modality, video.rescale) == (2, 0.5, 3, 0.25)
    assert (audio.cfg, audio.stg, audio.modality, audio.rescale) == (4, 1, 3, 0.25)
    assert video.stg_blocks == (3,)
    assert notes == ["validation.stg_blocks: [3] of 6 blocks stand for [28] of 48"]
    made, notes = plan(models, samples=sample(), stg_blocks=None)
    assert made.recipe.stages[0].guidance["audio"].stg_blocks == (0, 1, 2, 3, 4, 5)
    assert notes == []


def test_a_sample_has_its_own_size_and_seed(models):
    made, _ = plan(models, samples=sample(seed=0, video_dims=[96, 32, 17]))
    assert made.seed == 0
    assert made.size == (17, 32, 96, 24.0)
    assert plan(models, samples=sample(), seed=7)[0].seed == 7


@pytest.mark.parametrize(
    ("given", "streams", "note"),
    [
        ({}, ("video", "audio"), ""),
        ({"generate_audio": False}, ("video",), ""),  # the scale is a default, not asked for
        ({"generate_audio": False, PICTURE_SCALE: 2}, ("video",), f"{PICTURE_SCALE}: not used, as"),
        ({"generate_video": False, SOUND_SCALE: 2}, ("audio",), f"{SOUND_SCALE}: not used, as"),
        ({"strategy": VIDEO}, ("video",), "clips without audio: training_strategy has no audio"),
        ({"strategy": AUDIO}, ("audio",), "clips without video: training_strategy has no video"),
        ({"video_dims": [64, 64, 1]}, ("video",), "without audio: a single frame has no sound"),
    ],
)
def test_what_a_clip_is_made_of(models, given, streams, note):
    made, notes = plan(models, samples=sample(), stg_blocks=[1], **given)
    assert made.recipe.streams == streams
    assert note in "\n".join(notes)
    assert bool(note) == bool(notes)


def test_what_is_given_whole_is_there_and_not_guided(models):
    given = sample({"type": "audio_to_video", "audio": "x.wav"})
    made, _ = plan(models, samples=given, generate_audio=False)
    assert (made.recipe.streams, made.frozen) == (("video", "audio"), ("audio",))
    assert set(made.recipe.stages[0].guidance) == {"video"}


@pytest.mark.parametrize("given", [{"variant": "distilled"}, {"model": {"allow_distilled": True}}])
def test_distilled_weights_have_their_own_levels(models, given):
    made, notes = plan(models, samples=sample(), stg_blocks=[1], **given)
    assert made.recipe.stages[0].sigmas == DISTILLED
    assert made.recipe.stages[0].guidance == {}
    assert notes == [
        "validation: distilled weights have 8 noise levels of their own and no guidance; "
        "inference_steps and the scales are not used"
    ]
    allowed = {"allow_distilled": True}
    dev, _ = plan(models, samples=sample(), stg_blocks=[1], variant="dev", model=allowed)
    assert dev.recipe.stages[0].sigmas == shifted(2)


VIDEO_TO_AUDIO = {"type": "video_to_audio", "video": "x.mp4"}
SOUND = {"type": "prefix", "audio": "x.wav"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"samples": sample(VIDEO_TO_AUDIO), "generate_audio": False},
            "validation.samples.0: nothing is made: validation.generate_audio is false",
        ),
        (
            {"samples": sample(SOUND), "strategy": VIDEO},
            "validation.samples.0.conditions.0: prefix is for the audio, which is not made: "
            "training_strategy has no audio",
        ),
        (
            {"samples": sample(SOUND), "generate_audio": False},
            "conditions.0: prefix is for the audio, which is not made: validation.generate_audio",
        ),
        (
            {"samples": sample(VIDEO_TO_AUDIO), "strategy": AUDIO},
            "conditions.0: video_to_audio is for the video, which is not made: training_strategy",
        ),
        (
            {"samples": sample(), "strategy": VIDEO, "generate_video": False},
            "validation.samples.0: nothing is made: validation.generate_video is false; "
            "training_strategy has no audio",
        ),
        (
            {"samples": sample(), "stg_blocks": [6]},
            "validation.stg_blocks: STG block 6: this model has blocks 0 to 5",
        ),
        (
            {"samples": sample(), "frame_rate": 10000.0},
            "validation.video_dims: 9 frames at 10000 a second are too short for sound",
        ),
        (
            {"samples": sample(video_dims=[64, 64, 17]), "frame_rate": 10000.0},
            "validation.samples.0.video_dims: 17 frames at 10000 a second are too short",
        ),
    ],
)
def test_what_cannot_be_made(models, given, said):
    with pytest.raises(UserError) as error:
        plan(models, **given)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_references_unlike_those_that_are_trained_on_are_told():
    shown = {"type": "reference", "video": "x.mp4"}
    both = sample(shown, {"type": "reference", "audio": "x.wav"})
    given = config(samples=both).validation
    assert reference_notes(given, (1, 1)) == []
    at = "validation.samples.0.conditions.0"
    trained = "but of the references that are trained on it is"
    assert reference_notes(given, (2, 4)) == [
        f"{at}.downscale_factor is 1, {trained} 2",
        f"{at}.temporal_scale_factor is 1, {trained} 4",
    ]
    halved = config(samples=sample({**shown, "downscale_factor": 2})).validation
    assert reference_notes(halved, (2, 1)) == []
    assert reference_notes(config(samples=both, interval=None).validation, (2, 1)) == []
