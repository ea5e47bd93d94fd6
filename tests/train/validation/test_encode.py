import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.sampling.conditions import Grid, condition_audio, condition_video
from ltx_infer.sampling.state import free_state
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale, audio_positions, video_positions
from ltx_train.data.conditions import first_units, last_units, reference_positions, region
from ltx_train.validation.encode import encode_plans
from ltx_train.validation.media import read_given
from ltx_train.validation.samples import plan_samples
from tests.train.validation.conftest import config, sample

CLIP, SOUND = {"video": "clip.mp4"}, {"audio": "sound.wav"}
LONG = {"video_dims": [64, 64, 17]}
SOUND_LATENTS = 9  # of 9 frames at 24 a second


def inputs(models, *conditions, **more):
    plans, _ = plan_samples(config(samples=sample(*conditions), **more), models, variant=None)
    read_given(plans[0], models)  # before an encoder is loaded
    return encode_plans(plans, models)[0]


@pytest.fixture(scope="module")
def whole(models, media):
    """The latents of 17 frames of the clip, and the tokens of the sound of 9 frames."""
    given = {"video": str(media / "clip.mp4")}, {"audio": str(media / "sound.wav")}
    video = inputs(models, {"type": "video_to_audio", **given[0]}, **LONG)
    audio = inputs(models, {"type": "audio_to_video", **given[1]})
    return np.array(video.video_start), np.array(audio.audio_start)


def video_state(models, given, *, dims=(64, 64, 9), fps=24.0):
    size = ((dims[2] - 1) // 8 + 1, dims[1] // 32, dims[0] // 32)
    grid = Grid(size, fps, models.video_config.scale)
    tokens = mx.zeros((1, int(np.prod(size)), models.transformer_config.in_channels))
    state = free_state(tokens, video_positions(size, fps=fps, scale=grid.scale))
    return condition_video(state, given.video, grid), size


def audio_state(models, given):
    tokens = mx.zeros((1, SOUND_LATENTS, models.transformer_config.audio_in_channels))
    scale = models.audio_config.scale
    return condition_audio(free_state(tokens, audio_positions(9, scale=scale)), given.audio)


@pytest.mark.parametrize(
    ("condition", "tokens"),
    [
        ({"type": "first_frame", "image_or_video": "still.png"}, lambda s: first_units(s, 1)),
        ({"type": "first_frame", "image_or_video": "clip.mp4"}, lambda s: first_units(s, 1)),
        ({"type": "prefix", **CLIP, "num_frames": 9}, lambda s: first_units(s, 2)),
        ({"type": "suffix", **CLIP, "num_frames": 8}, lambda s: last_units(s, 1)),
        (
            {"type": "spatial_crop", **CLIP, "spatial_region": [0, 0, 40, 64]},
            lambda s: region(s, (0, 0, 40, 64), scale=VideoScale(8, 32)),
        ),
        ({"type": "mask", **CLIP, "mask": "mask.png"}, lambda s: np.array([0, 1] * 6, bool)),
    ],
)
def test_what_is_given_of_the_picture_is_what_training_gives(
    models, in_media, whole, condition, tokens
):
    """The same tokens, and what they are: latents of the whole clip where its parts are given."""
    given = inputs(models, condition, **LONG)
    state, size = video_state(models, given, dims=(64, 64, 17))
    wanted = tokens(size)
    assert np.array_equal(state.denoise_mask[0], 1 - wanted.astype(np.float32))
    expected = whole[0][0].reshape(whole[0].shape[1], -1).T[wanted]
    got = np.array(state.clean)[0][wanted]
    if condition.get("image_or_video") != "still.png":
        assert np.abs(got - expected).max() < 1e-4
    else:
        assert np.abs(got).max() > 0


@pytest.mark.parametrize(
    ("condition", "tokens"),
    [
        ({"type": "prefix", **SOUND, "duration": 0.2}, [1] * 5 + [0] * 4),
        ({"type": "suffix", **SOUND, "duration": 0.12}, [0] * 6 + [1] * 3),
        ({"type": "prefix", "audio": "short.wav"}, [1] * 2 + [0] * 7),
        ({"type": "mask", **SOUND, "mask": "mask.wav"}, [0, 0, 0, 1, 1, 1, 0, 0, 0]),
    ],
)
def test_what_is_given_of_the_sound(models, in_media, whole, condition, tokens):
    given = inputs(models, condition)
    state, wanted = audio_state(models, given), np.array(tokens, bool)
    assert np.array_equal(state.denoise_mask[0], 1 - wanted.astype(np.float32))
    assert whole[1].shape[1] == SOUND_LATENTS
    if condition["audio"] == "sound.wav":
        difference = np.abs(np.array(state.clean)[0] - whole[1][0])[wanted]
        assert difference.max() < 1e-4


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_reference_lies_where_it_does_in_training(models, in_media, factors):
    space, time = factors
    condition = {"downscale_factor": space, "temporal_scale_factor": time}
    given = inputs(models, {"type": "reference", **CLIP, **condition}, **LONG)
    state, size = video_state(models, given, dims=(64, 64, 17))
    own = int(np.prod(size))
    small = ((size[0] - 1) // time + 1, size[1] // space, size[2] // space)
    scale = models.video_config.scale
    wanted = reference_positions(
        small, fps=24 / time, scale=scale, factors=factors, target_fps=24.0
    )
    assert np.allclose(state.positions[:, :, own:], wanted, rtol=1e-6)
    assert not state.denoise_mask[0, own:].any()
    assert state.denoise_mask[0, :own].all()


def test_a_reference_sound_lies_where_it_does_in_training(models, in_media):
    state = audio_state(models, inputs(models, {"type": "reference", **SOUND}))
    own = slice(None, SOUND_LATENTS)
    num_given = state.positions.shape[2] - SOUND_LATENTS
    scale = models.audio_config.scale
    assert num_given == SOUND_LATENTS
    assert np.array_equal(
        state.positions[:, :, SOUND_LATENTS:], audio_positions(num_given, scale=scale)
    )
    assert state.denoise_mask[0, own].all()
    assert not state.denoise_mask[0, SOUND_LATENTS:].any()


def test_conditions_go_together(models, in_media):
    given = inputs(
        models,
        {"type": "reference", **CLIP},
        {"type": "first_frame", "image_or_video": "still.png"},
        {"type": "reference", **SOUND},
    )
    assert [type(each).__name__ for each in given.video] == ["Reference", "LatentIndex"]
    assert [type(each).__name__ for each in given.audio] == ["ReferenceAudio"]


def test_a_short_sound_is_followed_by_silence(models, in_media):
    given = config(samples=sample({"type": "audio_to_video", "audio": "short.wav"}))
    plans, _ = plan_samples(given, models, variant=None)
    _, notes = read_given(plans[0], models)
    assert notes == [
        "validation.samples.0.conditions.0.audio: short.wav lasts 0.10 s, the clip 0.38 s: "
        "silence follows"
    ]
    assert encode_plans(plans, models)[0].audio_start.shape[1] == SOUND_LATENTS


REFERENCE = {"type": "reference", **CLIP}


@pytest.mark.parametrize(
    ("condition", "more", "said"),
    [
        (
            {"type": "first_frame", "image_or_video": "no.png"},
            {},
            "0.image_or_video: no.png: there",
        ),
        ({"type": "first_frame", "image_or_video": "sound.wav"}, {}, "sound.wav: has no picture"),
        (
            {"type": "video_to_audio", "video": "no.mp4"},
            {},
            "0.conditions.0.video: no.mp4: there is",
        ),
        ({"type": "video_to_audio", "video": "short.mp4"}, {}, "5 frames at 24 a second, the clip"),
        ({"type": "video_to_audio", "video": "."}, {}, "conditions.0.video: .: is a folder"),
        ({"type": "prefix", **CLIP}, {}, "0.video: clip.mp4: as long as the clip, which has 9 fr"),
        ({"type": "prefix", **CLIP, "num_frames": 9}, {}, "as long as the clip"),
        (
            {"type": "prefix", "video": "short.mp4", "num_frames": 9},
            {},
            "5 frames at 24 a second, 9",
        ),
        (
            {"type": "suffix", **CLIP, "num_frames": 16},
            {},
            "9 frames at 24 a second, 17 are needed",
        ),
        ({"type": "suffix", "video": "short.mp4"}, {}, "5 frames at 24 a second, 1 are needed"),
        (
            {"type": "spatial_crop", **CLIP, "spatial_region": [0, 0, 31, 64]},
            {},
            "conditions.0.spatial_region: [0, 0, 31, 64] has no whole latent of 32 pixels",
        ),
        (
            {"type": "spatial_crop", **CLIP, "spatial_region": [0, 0, 64, 64]},
            {},
            "validation.samples.0.conditions: they give all of the video; nothing is made",
        ),
        ({"type": "mask", **CLIP, "mask": "no.png"}, {}, "conditions.0.mask: no.png: there is no"),
        ({"type": "mask", **CLIP, "mask": "short.mp4"}, {}, "the mask has 5 frames, the clip 9"),
        (
            {**REFERENCE, "downscale_factor": 4},
            {},
            "conditions.0.downscale_factor: a reference of 1/4 the size for a clip of 64x64; mult",
        ),
        (
            {**REFERENCE, "temporal_scale_factor": 2},
            {},
            "0.temporal_scale_factor: one of 2 frames for a clip of 9; a multiple of 16 plus 1",
        ),
        (
            {"type": "first_frame", "image_or_video": "still.png"},
            {"video_dims": [64, 64, 1]},
            "all",
        ),
        ({"type": "audio_to_video", "audio": "still.png"}, {}, "conditions.0.audio: still.png: "),
        (
            {"type": "prefix", **SOUND},
            {},
            "1.00 s of it, 25 latents; 1 to 8 of the clip's 9 can be",
        ),
        (
            {"type": "prefix", "audio": "short.wav", "duration": 0.2},
            {},
            "lasts 0.10 s, 0.2 s of it",
        ),
        ({"type": "suffix", **SOUND, "duration": 0.01}, {}, "0.01 s of it, 0 latents"),
        (
            {"type": "mask", **SOUND, "mask": "short.wav"},
            {},
            "conditions.0.mask: short.wav: the mask",
        ),
        ({"type": "mask", **SOUND, "mask": "no.wav"}, {}, "conditions.0.mask: no.wav: there is no"),
        (
            {"type": "reference", **SOUND, "downscale_factor": 2},
            {},
            "validation.samples.0.conditions.0: a reference of sound has no scale factors but 1",
        ),
        (
            {"type": "reference", **SOUND, "include_in_output": True},
            {},
            "conditions.0.include_in_output: sound cannot be shown beside a clip",
        ),
    ],
)
def test_what_cannot_be_given(models, in_media, condition, more, said):
    with pytest.raises(UserError) as error:
        inputs(models, condition, **more)
    assert said in str(error.value)
    assert str(error.value).startswith("validation.samples.0.conditions")
    assert len(str(error.value).splitlines()) <= 3
