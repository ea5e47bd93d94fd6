"""Parts of a clip, and the clip of its parts again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_infer.upscale.segments import OVERLAP, SIZE, Part, joined, padded, segments


def numbered(num_frames: int) -> list[np.ndarray]:
    """Frames (1, 2, 3) whose values tell their number."""
    return [np.full((1, 2, 3), number % 251, np.uint8) for number in range(num_frames)]


def whole(frames: list[np.ndarray], num_shared: int, *, padding: int = 0, at_once: int = 7) -> Part:
    """A part as it comes from the decoder: with frames too many, a few at a time."""
    stacked = np.stack([*frames, *frames[-1:] * padding])
    chunks = (stacked[start : start + at_once] for start in range(0, len(stacked), at_once))
    return Part(chunks, len(frames), num_shared)


@given(st.integers(1, 400), st.integers(0, 7), st.integers(1, 60))
def test_parts_that_are_not_changed_make_the_clip(num_frames, padding, at_once):
    frames = numbered(num_frames)
    parts = (
        whole(part, shared, padding=padding, at_once=at_once)
        for part, shared in segments(iter(frames))
    )
    got = list(joined(parts))
    assert np.array_equal(np.stack(got), np.stack(frames))


@given(st.integers(1, 600))
def test_parts_overlap_by_whole_latents(num_frames):
    sizes = [(len(part), shared) for part, shared in segments(iter(numbered(num_frames)))]
    assert all(size == (SIZE, OVERLAP) for size in sizes[:-1])
    assert (SIZE - OVERLAP) % 8 == 0
    assert SIZE % 8 == OVERLAP % 8 == 1
    last, shared = sizes[-1]
    assert shared == 0
    assert last <= SIZE
    assert len(sizes) == 1 or last > OVERLAP  # the part before gives not all of it


def test_no_more_frames_are_read_than_a_part_and_one():
    read = []

    def frames():
        for frame in numbered(500):
            read.append(frame)
            yield frame

    parts = segments(frames())
    next(parts)
    assert len(read) == SIZE + 1
    next(parts)
    assert len(read) == SIZE + 1 + SIZE - OVERLAP


def test_what_two_parts_share_goes_over_from_one_to_the_other():
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 250, np.uint8)
    parts = [whole([black] * 8, 5), whole([white] * 8, 0)]
    levels = [int(frame[0, 0, 0]) for frame in joined(parts)]
    assert levels == [0, 0, 0, 0, 50, 100, 150, 200, 250, 250, 250]


def test_padding_repeats_the_last_frame_row_and_column():
    frames = [np.full((33, 20, 3), level, np.uint8) for level in (0, 255)]
    frames[1][-1] = 0
    frames[1][:, -1] = 51
    pixels = padded(frames, time=8, space=32)
    assert pixels.shape == (1, 3, 9, 64, 32)
    assert pixels.dtype == np.float32
    assert (pixels[:, :, 0] == -1).all()
    assert (pixels[:, :, 1:] == pixels[:, :, 1:2]).all()
    assert pixels[0, 0, 8, 63, 5] == -1
    assert pixels[0, 0, 8, 5, 31] == pytest.approx(-0.6)
    assert pixels[0, 0, 8, 5, 5] == 1


@pytest.mark.parametrize("shape", [(9, 32, 64, 3), (1, 32, 32, 3)])
def test_what_fits_is_not_padded(shape):
    frames = list(np.zeros(shape, np.uint8))
    assert padded(frames, time=8, space=32).shape == (1, 3, *shape[:3])
