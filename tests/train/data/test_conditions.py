import mlx.core as mx
import numpy as np
import pytest

from ltx_models.transformer.patchify import VideoScale, video_positions
from ltx_train.data.conditions import (
    Given,
    Reference,
    Source,
    draw_batch,
    first_units,
    last_units,
    masked,
    reference_positions,
    region,
)
from ltx_train.data.draws import seeded_draws

SIZE, SCALE = (3, 2, 4), VideoScale(8, 32)
NUM_TOKENS = 24


def source(count: int = 2, size=SIZE, **changes) -> Source:
    num_tokens = int(np.prod(size))
    return Source(
        x_0=mx.random.normal((count, num_tokens, 5), key=mx.random.key(0)),
        positions=video_positions(size, fps=24, scale=SCALE).repeat(count, axis=0),
        context=mx.zeros((count, 1, 1)),
    )._replace(**changes)


def drawn(key: int = 0, *, shared_sigma: bool = False, **sources: Source):
    draws = seeded_draws([key], mode="shifted_logit_normal", params={})
    return draw_batch(sources, draws, shared_sigma=shared_sigma)


def test_regions():
    grid = np.arange(NUM_TOKENS).reshape(SIZE)
    assert np.flatnonzero(first_units(SIZE, 2)).tolist() == grid[:2].ravel().tolist()
    assert np.flatnonzero(last_units(SIZE, 1)).tolist() == grid[2:].ravel().tolist()
    corners = (33, 0, 64, 95)  # rounded down to rows 1 to 2 and columns 0 to 2
    expected = grid[:, 1:2, :2].ravel().tolist()
    assert np.flatnonzero(region(SIZE, corners, scale=SCALE)).tolist() == expected
    assert region(SIZE, (0, 0, 999, 999), scale=SCALE).all()
    assert masked(np.array([[0.5, 0.6], [1, 0]])).tolist() == [[False, True], [True, False]]


def test_given_tokens_are_those_of_the_samples_that_drew_them():
    tokens = first_units(SIZE, 1)
    (batch,) = drawn(video=source(200, given=[Given(tokens, 0.3)])).values()
    given = batch.denoise_mask == 0
    applied = given.any(axis=1)
    assert 0.2 < applied.mean() < 0.4
    assert (given[applied] == tokens).all()


def test_conditions_are_drawn_apart_and_add_up():
    conditions = [Given(first_units(SIZE, 1), 0.5), Given(last_units(SIZE, 1), 0.5)]
    (batch,) = drawn(video=source(200, given=conditions)).values()
    counts = np.unique((batch.denoise_mask == 0).sum(axis=1), return_counts=True)
    assert counts[0].tolist() == [0, 8, 16]
    assert (counts[1] > 25).all()


def test_a_still_with_its_first_frame_given_still_teaches():
    size = (1, 2, 4)
    (batch,) = drawn(video=source(3, size, given=[Given(first_units(size, 1))])).values()
    assert (batch.denoise_mask == 1).all()


def test_conditions_that_together_leave_nothing_are_applied_as_far_as_something_is_left():
    conditions = [Given(first_units(SIZE, 2)), Given(last_units(SIZE, 1))]
    (batch,) = drawn(video=source(1, given=conditions)).values()
    assert np.flatnonzero(batch.denoise_mask[0]).tolist() == list(range(16, 24))


def test_a_reference_goes_before_the_clip_for_the_whole_batch():
    shown = Reference(mx.ones((2, 6, 5)), np.zeros((2, 3, 6, 2), np.float32), 0.5)
    lengths = []
    for key in range(40):
        (batch,) = drawn(key, video=source(references=[shown])).values()
        own = batch.noise.shape[1]
        assert own == NUM_TOKENS
        lengths.append(batch.x_0.shape[1])
        assert batch.denoise_mask.shape[1] == batch.positions.shape[2] == lengths[-1]
        assert (batch.denoise_mask[:, :-own] == 0).all()
        assert (batch.denoise_mask[:, -own:] == 1).all()
    assert set(lengths) == {NUM_TOKENS, NUM_TOKENS + 6}


def test_levels_are_each_streams_own_or_shared():
    both = {"video": source(4), "audio": source(4, (5, 1, 1))}
    batch = drawn(**both)
    assert not np.isclose(batch["video"].sigma, batch["audio"].sigma).any()
    batch = drawn(shared_sigma=True, **both)
    assert (batch["video"].sigma == batch["audio"].sigma).all()


def test_levels_are_shifted_by_the_clips_own_tokens():
    """A reference does not count, and neither does the other stream."""
    shown = Reference(mx.ones((2000, 600, 5)), np.zeros((2000, 3, 600, 2), np.float32))
    alone, with_reference = (
        drawn(video=source(2000, references=references))["video"].sigma
        for references in ([], [shown])
    )
    assert (alone == with_reference).all()
    longer = drawn(video=source(2000, (16, 8, 8)))["video"].sigma
    assert longer.mean() > alone.mean() + 0.03


@pytest.mark.parametrize("shared_sigma", [False, True])
def test_a_stream_that_is_not_generated_is_given_as_a_whole(shared_sigma):
    batch = drawn(shared_sigma=shared_sigma, video=source(is_generated=False), audio=source())
    assert batch["video"].noise is None
    assert (batch["video"].sigma == 0).all()
    assert (batch["video"].denoise_mask == 0).all()
    assert (batch["audio"].sigma > 0).all()


def test_key_alone_decides_and_a_condition_changes_neither_level_nor_noise():
    (one,), (same,), (other,), (more,) = (
        drawn(key, video=source(given=given)).values()
        for key, given in [(1, ()), (1, ()), (2, ()), (1, [Given(first_units(SIZE, 1))])]
    )
    assert mx.array_equal(one.noise, same.noise)
    assert (one.sigma == same.sigma).all()
    assert not mx.allclose(one.noise, other.noise)
    assert mx.array_equal(one.noise, more.noise)
    assert (one.sigma == more.sigma).all()


def test_a_reference_at_half_size_lies_where_the_clip_does():
    clip = video_positions((3, 4, 8), fps=24, scale=SCALE).reshape(3, 3, 4, 8, 2)
    shown = reference_positions((3, 2, 4), fps=24, scale=SCALE, factors=(2, 1), target_fps=24)
    shown = shown.reshape(3, 3, 2, 4, 2)
    assert (shown[0, :, 0, 0] == clip[0, :, 0, 0]).all()
    assert shown[1:].max() == clip[1:].max()
    assert (shown[1, 0, 1, 0] == [clip[1, 0, 2, 0, 0], clip[1, 0, 3, 0, 1]]).all()


def test_a_slow_reference_begins_and_ends_with_the_clip():
    clip = video_positions((9, 1, 1), fps=24, scale=SCALE)
    shown = reference_positions((5, 1, 1), fps=12, scale=SCALE, factors=(1, 2), target_fps=24)
    assert shown[0, 0, 0, 0] == 0
    assert shown[0, 0, -1, 1] == pytest.approx(clip[0, 0, -1, 1])
    assert shown[0, 0, 1:].ravel() == pytest.approx(
        np.stack([clip[0, 0, 1::2, 0], clip[0, 0, 2::2, 1]], axis=1).ravel()
    )
