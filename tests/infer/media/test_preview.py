import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_infer.media.preview import (
    BACKGROUND,
    COLUMNS,
    GAP,
    LABEL,
    LONGEST_SIDE,
    MOST_FRAMES,
    WAVE,
    WAVE_HEIGHT,
    Shown,
    contact_sheet,
    frame_numbers,
    kept_for_sheet,
    waveform,
    with_sound,
)
from tests.infer.media.written import moving


@given(st.integers(1, 5000))
def test_the_first_and_the_last_frame_are_shown_and_others_between(num_frames):
    numbers = frame_numbers(num_frames)
    assert numbers[0] == 0
    assert numbers[-1] == num_frames - 1
    assert len(numbers) == min(num_frames, MOST_FRAMES)
    gaps = np.diff(numbers)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


def test_frames_pass_and_those_to_be_shown_are_kept_small():
    frames, shown = moving(25, height=64, width=640), []
    chunks = list(
        kept_for_sheet([frames[:1], frames[1:9], frames[9:]], shown, num_frames=25, fps=10)
    )
    np.testing.assert_array_equal(np.concatenate(chunks), frames)
    numbers = frame_numbers(25)
    assert [frame.time for frame in shown] == [number / 10 for number in numbers]
    assert {frame.pixels.shape for frame in shown} == {(32, LONGEST_SIDE, 3)}
    assert [int(f.pixels[0, 0, 0]) for f in shown] == [frames[n, 0, 0, 0] for n in numbers]


def test_frames_are_in_rows_from_left_to_right():
    colours = [np.full((20, 30, 3), 40 * n, np.uint8) for n in range(5)]
    sheet = contact_sheet([Shown(pixels, n / 8) for n, pixels in enumerate(colours)])
    assert sheet.shape == (2 * (20 + LABEL + GAP) + GAP, COLUMNS * (30 + GAP) + GAP, 3)
    for number in range(5):
        row, column = divmod(number, COLUMNS)
        top, left = GAP + row * (20 + LABEL + GAP), GAP + column * (30 + GAP)
        assert (sheet[top : top + 20, left : left + 30] == 40 * number).all()
        label = sheet[top + 20 : top + 20 + LABEL, left : left + 30]
        assert (label != BACKGROUND).any()


def test_the_waveform_is_as_high_as_the_sound_is_loud():
    quiet_then_loud = np.concatenate([np.full(500, 0.0), np.tile([1.0, -1.0], 250)])
    picture = waveform(np.stack([quiet_then_loud, -0.5 * quiet_then_loud]), width=100)
    assert picture.shape == (2 * WAVE_HEIGHT, 100, 3)
    inked = (picture == WAVE).all(-1)
    high, low = inked[:WAVE_HEIGHT].sum(0), inked[WAVE_HEIGHT:].sum(0)
    assert set(high[:50]) == set(low[:50]) == {1}
    assert set(high[50:]) == {WAVE_HEIGHT}
    assert abs(low[50:] - WAVE_HEIGHT / 2).max() <= 1


@pytest.mark.parametrize("num_samples", [0, 1, 7])
def test_a_very_short_sound_has_a_waveform(num_samples):
    assert waveform(np.zeros((2, num_samples)), width=50).shape == (2 * WAVE_HEIGHT, 50, 3)


def test_of_the_sound_is_drawn_what_belongs_to_the_picture():
    shown = [Shown(np.zeros((20, 90, 3), np.uint8), 0.0)]
    samples = np.concatenate([np.ones((1, 100)), np.zeros((1, 900))], axis=1)
    cut = with_sound(shown, samples, rate=100, seconds=1.0)
    whole = with_sound(shown, samples, rate=100, seconds=None)
    silent = with_sound(shown, None, rate=None, seconds=1.0)
    assert cut.shape == whole.shape
    assert cut.shape[0] == silent.shape[0] + WAVE_HEIGHT + LABEL + GAP
    top = silent.shape[0]
    loud = [(sheet[top] == WAVE).all(-1).sum() for sheet in (cut, whole)]  # the highest row
    assert loud == [90, 9]


def test_a_sound_alone_has_a_sheet():
    sheet = with_sound([], np.zeros((2, 100)), rate=100, seconds=None)
    assert sheet.shape[1] == COLUMNS * LONGEST_SIDE
    assert (sheet == WAVE).all(-1).any()
