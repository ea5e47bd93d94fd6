import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_infer.sampling.conditions import (
    AudioIndex,
    Grid,
    Keyframe,
    LatentIndex,
    Mask,
    Reference,
    ReferenceAudio,
    TemporalRegion,
    condition_audio,
    condition_video,
)
from ltx_infer.sampling.state import State, add_noise, free_state
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import (
    AudioScale,
    VideoScale,
    audio_positions,
    patchify_video,
    video_positions,
)

GRID = Grid((3, 2, 4), 24.0, VideoScale(8, 32))
PER_FRAME, CHANNELS, NUM_TOKENS = 8, 5, 24
AUDIO_TOKENS, AUDIO_CHANNELS = 14, 6


def video(*, fps: float = 24.0) -> tuple[State, Grid]:
    grid = GRID._replace(fps=fps)
    tokens = mx.random.normal((1, NUM_TOKENS, CHANNELS), key=mx.random.key(0))
    return free_state(tokens, video_positions(grid.size, fps=fps, scale=grid.scale)), grid


def audio() -> State:
    tokens = mx.random.normal((1, AUDIO_TOKENS, AUDIO_CHANNELS), key=mx.random.key(1))
    return free_state(tokens, audio_positions(AUDIO_TOKENS, scale=AudioScale(16000, 160, 4)))


def latents(frames: int = 1, *, rows: int = 2, columns: int = 4) -> mx.array:
    shape = (1, CHANNELS, frames, rows, columns)
    return mx.random.normal(shape, key=mx.random.key(frames))


def apply(*conditions) -> State:
    state, grid = video()
    return condition_video(state, conditions, grid)


def test_without_conditions_nothing_changes():
    state, grid = video()
    assert condition_video(state, [], grid) is state


def test_a_first_frame_is_written_over_the_clean_tokens_only():
    before, grid = video()
    want = mx.array(before.clean)
    state = condition_video(before, [LatentIndex(latents(), 0.75)], grid)
    assert mx.array_equal(state.clean[:, :PER_FRAME], patchify_video(latents()))
    assert mx.array_equal(state.clean[:, PER_FRAME:], want[:, PER_FRAME:])
    assert (state.denoise_mask[:, :PER_FRAME] == 0.25).all()
    assert (state.denoise_mask[:, PER_FRAME:] == 1).all()
    assert mx.array_equal(state.tokens, want)
    assert mx.array_equal(before.clean, want)  # the state that was given is as it was
    assert (before.denoise_mask == 1).all()


def test_later_latent_frames_are_written_at_their_index():
    state = apply(LatentIndex(latents(2), latent_index=1))
    assert mx.array_equal(state.clean[:, PER_FRAME:], patchify_video(latents(2)))
    assert state.denoise_mask[0, :PER_FRAME].min() == 1
    assert state.denoise_mask[0, PER_FRAME:].max() == 0


def test_a_given_first_frame_is_exact_in_the_noisy_tokens():
    state = apply(LatentIndex(latents()))
    for scale in (1.0, 0.909375):
        noisy = add_noise(state, mx.full(state.tokens.shape, 7.0), scale)
        assert mx.array_equal(noisy[:, :PER_FRAME], state.clean[:, :PER_FRAME])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2), st.sampled_from([12.0, 23.976, 24.0, 25.0, 30.0]))
def test_a_keyframe_lies_where_the_clips_frame_begins(index, fps):
    before, grid = video(fps=fps)
    state = condition_video(before, [Keyframe(latents(), 8 * index - 7)], grid)
    own = before.positions[:, :, index * PER_FRAME : (index + 1) * PER_FRAME]
    new = state.positions[:, :, NUM_TOKENS:]
    assert (new[:, 1:] == own[:, 1:]).all()
    assert (new[:, 0, :, 0] == own[:, 0, :, 0]).all()
    one_frame = new[:, 0, :, 1] - new[:, 0, :, 0]  # a picture is one frame long, a latent eight
    assert np.allclose(one_frame, 1 / fps, rtol=1e-5)
    assert np.allclose(own[:, 0, :, 1] - own[:, 0, :, 0], 8 / fps, rtol=1e-5)


def test_a_keyframe_at_the_start_equals_the_clips_first_frame():
    state = apply(Keyframe(latents(), 0, 0.5))
    assert (state.positions[:, :, NUM_TOKENS:] == state.positions[:, :, :PER_FRAME]).all()
    assert mx.array_equal(state.clean[:, NUM_TOKENS:], patchify_video(latents()))
    assert mx.array_equal(state.tokens[:, NUM_TOKENS:], mx.zeros((1, PER_FRAME, CHANNELS)))
    assert (state.denoise_mask[:, NUM_TOKENS:] == 0.5).all()
    assert state.num_tokens == NUM_TOKENS
    assert state.attention_mask is None


def test_a_keyframe_of_many_frames_is_as_long_as_its_latents():
    state = apply(Keyframe(latents(2), 9, num_pixel_frames=9))
    times = state.positions[0, 0, NUM_TOKENS:] * GRID.fps
    assert np.allclose(times[:PER_FRAME], [9, 17])
    assert np.allclose(times[PER_FRAME:], [17, 25])


def test_a_reference_of_the_same_size_lies_on_the_clip():
    state = apply(Reference(latents(3)))
    assert (state.positions[:, :, NUM_TOKENS:] == state.positions[:, :, :NUM_TOKENS]).all()


def test_a_smaller_reference_covers_the_clip():
    state = apply(Reference(latents(3, rows=1, columns=2), space_factor=2))
    own, new = (state.positions[0, 1:, part] for part in (slice(0, NUM_TOKENS), slice(24, None)))
    assert new.min() == own.min()
    assert (new.max(axis=(1, 2)) == own.max(axis=(1, 2))).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_a_sparser_reference_ends_as_a_clip_of_its_length(factor):
    state = apply(Reference(latents(2), time_factor=factor))
    times = state.positions[0, 0, NUM_TOKENS:] * GRID.fps
    assert np.allclose(times[:PER_FRAME], [0, 1], atol=1e-5)
    # Frames 1 to 8 of the reference are frames 1, 1 + factor ... of the clip.
    assert np.allclose(times[PER_FRAME:], [1, 1 + 8 * factor], atol=1e-4)


def test_a_mask_gives_what_it_covers_and_counts_only_the_clips_own_tokens():
    covered = np.zeros((1, 3, 2, 4), np.float32)
    covered[0, 1], covered[0, 2] = 1, 0.5
    state = apply(Keyframe(latents(), 8, 0.25), Mask(latents(3), covered, 0.5))
    own, given_tokens = video()[0].clean, patchify_video(latents(3))
    first, second, third = (slice(i * PER_FRAME, (i + 1) * PER_FRAME) for i in range(3))
    assert mx.array_equal(state.clean[:, first], own[:, first])
    assert mx.array_equal(state.clean[:, second], given_tokens[:, second])
    assert mx.allclose(state.clean[:, third], (own[:, third] + given_tokens[:, third]) / 2)
    values = [set(state.denoise_mask[0, part]) for part in (first, second, third)]
    assert values == [{1.0}, {0.5}, {0.75}]
    assert set(state.denoise_mask[0, NUM_TOKENS:]) == {0.75}
    assert mx.array_equal(state.clean[:, NUM_TOKENS:], patchify_video(latents()))


def test_a_time_region_is_generated_and_the_rest_kept():
    state = apply(LatentIndex(latents()), TemporalRegion(0.1, 0.3))
    # Latent frames span [0, 1), [1, 9) and [9, 17) of 24 frames a second.
    mask = state.denoise_mask[0].reshape(3, PER_FRAME)
    assert mask.min(axis=1).tolist() == mask.max(axis=1).tolist() == [0, 1, 0]
    assert (apply(TemporalRegion(-1, 0.01)).denoise_mask.reshape(3, -1)[:, 0] == [1, 0, 0]).all()


def test_a_time_region_of_the_sound():
    state = condition_audio(audio(), [TemporalRegion(0.1, 0.25)])
    # Latents begin at 0, 0.01, 0.05, 0.09 ... seconds.
    assert state.denoise_mask[0].tolist() == [0, 0, 0, 1, 1, 1, 1] + [0] * 7


def test_sound_is_written_at_its_index_and_references_behind_it():
    sound = mx.ones((1, 4, AUDIO_CHANNELS))
    positions = np.full((1, 1, 4, 2), -1.0)
    state = condition_audio(
        audio(), [AudioIndex(sound, 0.5, 10), ReferenceAudio(sound, positions, 0.75)]
    )
    assert mx.array_equal(state.clean[:, 10:], mx.ones((1, 8, AUDIO_CHANNELS)))
    assert state.denoise_mask[0].tolist() == [1] * 10 + [0.5] * 4 + [0.25] * 4
    assert (state.positions[:, :, AUDIO_TOKENS:] == -1).all()
    assert state.positions.dtype == np.float32
    assert state.num_tokens == AUDIO_TOKENS


def test_two_references_of_half_strength_see_the_clip_but_not_each_other():
    reference = Reference(latents(1, rows=1, columns=2), space_factor=2, attention=0.5)
    state = apply(reference, reference)
    mask = state.attention_mask
    assert mask is not None
    assert mask.shape == (1, 28, 28)
    clip, one, two = slice(0, 24), slice(24, 26), slice(26, 28)
    assert (mask[:, clip, clip] == 1).all()
    for new in (one, two):
        assert (mask[:, clip, new] == 0.5).all()
        assert (mask[:, new, clip] == 0.5).all()
        assert (mask[:, new, new] == 1).all()
    assert (mask[:, one, two] == 0).all()
    assert (mask[:, two, one] == 0).all()


def test_attention_of_single_tokens_and_a_keyframe_after_it():
    weights = np.array([[0.25, 0.75]], np.float32)
    reference = Reference(latents(1, rows=1, columns=2), space_factor=2, attention=weights)
    mask = apply(reference, Keyframe(latents(), 3)).attention_mask
    assert mask is not None
    assert (mask[0, :24, 24:26] == weights).all()
    assert (mask[0, 24:26, :24] == weights.T).all()
    assert (mask[0, :24, 26:] == 1).all()
    assert (mask[0, 24:26, 26:] == 0).all()


strengths = st.fractions(0, 1, max_denominator=64).map(float)
video_conditions = st.one_of(
    st.builds(LatentIndex, st.just(latents()), strength=strengths, latent_index=st.integers(0, 2)),
    st.builds(
        Keyframe,
        st.just(latents()),
        st.integers(0, 16),
        strength=strengths,
        attention=st.none() | strengths,
    ),
    st.builds(
        Mask,
        st.just(latents(3)),
        st.builds(lambda w: np.full((1, 3, 2, 4), w, np.float32), strengths),
        strength=strengths,
    ),
    st.builds(TemporalRegion, st.floats(0, 0.3), st.floats(0.31, 9)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(video_conditions, max_size=5))
def test_any_conditions_keep_masks_in_range_and_sizes_equal(conditions):
    state, appended = apply(*conditions), sum(isinstance(c, Keyframe) for c in conditions)
    num_tokens = NUM_TOKENS + appended * PER_FRAME
    assert state.tokens.shape == state.clean.shape == (1, num_tokens, CHANNELS)
    assert state.positions.shape == (1, 3, num_tokens, 2)
    assert state.denoise_mask.shape == (1, num_tokens)
    assert state.denoise_mask.dtype == state.positions.dtype == np.float32
    assert state.denoise_mask.min() >= 0
    assert state.denoise_mask.max() <= 1
    if state.attention_mask is not None:
        assert state.attention_mask.shape == (1, num_tokens, num_tokens)
        assert (state.attention_mask == state.attention_mask.swapaxes(1, 2)).all()
        assert 0 <= state.attention_mask.min() <= state.attention_mask.max() <= 1


SMALL = latents(1, rows=1, columns=4)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (LatentIndex(latents(), 1.5), "first frame: strength 1.5 is not in 0 to 1"),
        (
            LatentIndex(SMALL),
            "first frame: it has 1x4 latent rows and columns, this stage needs 2x4",
        ),
        (
            LatentIndex(latents(2), latent_index=2),
            "latent frame 2: 2 latent frames from there do not fit, the clip has 3",
        ),
        (
            LatentIndex(latents(), latent_index=-1),
            "latent frame -1: 1 latent frames from there do not fit, the clip has 3",
        ),
        (
            LatentIndex(mx.zeros((1, 7, 1, 2, 4))),
            "first frame: batch 1 with 7 channels, this model and run have 1 with 5",
        ),
        (Keyframe(latents(), 17), "keyframe at frame 17: the clip has frames 0 to 16"),
        (Keyframe(latents(), 9, -0.5), "keyframe at frame 9: strength -0.5 is not in 0 to 1"),
        (
            Keyframe(SMALL, 9),
            "keyframe at frame 9: it has 1x4 latent rows and columns, this stage needs 2x4",
        ),
        (Reference(latents(3), float("nan")), "reference video: strength nan is not in 0 to 1"),
        (
            Reference(latents(3), space_factor=2),
            "reference video: it has 2x4 latent rows and columns, this stage needs 1x2",
        ),
        (
            Reference(latents(3), space_factor=3),
            "reference video: a clip of 2x4 latent rows and columns cannot be divided by 3",
        ),
        (
            Reference(latents(3), attention=1.5),
            "reference video, attention: weights 1.5 to 1.5 are not in 0 to 1",
        ),
        (
            Reference(latents(3), attention=np.ones((1, 7))),
            r"reference video: \(1, 7\) attention weights for \(1, 24\) tokens",
        ),
        (
            Mask(latents(3), np.ones((1, 3, 2, 2))),
            r"mask: it has the shape \(1, 3, 2, 2\), its latents \(3, 2, 4\); "
            r"this stage has \(1, 3, 2, 4\)",
        ),
        (Mask(latents(3), np.full((1, 3, 2, 4), 2.0)), "mask: weights 2 to 2 are not in 0 to 1"),
        (TemporalRegion(0.5, 0.2), "time region 0.5 to 0.2 s: it ends before it starts"),
        (TemporalRegion(0.75, 2), "time region from 0.75 s: the clip ends at 0.708333 s"),
    ],
)
def test_what_does_not_fit_is_named(condition, text):
    with pytest.raises(UserError, match=text):
        apply(condition)


def test_sound_that_does_not_fit_is_named():
    with pytest.raises(
        UserError, match="sound at latent 12: 4 from there do not fit, the clip has 14"
    ):
        condition_audio(audio(), [AudioIndex(mx.zeros((1, 4, AUDIO_CHANNELS)), latent_index=12)])
    reference = ReferenceAudio(mx.zeros((1, 4, 3)), np.zeros((1, 1, 4, 2)))
    with pytest.raises(UserError, match="reference sound: batch 1 with 3 channels"):
        condition_audio(audio(), [reference])
