import mlx.core as mx
import numpy as np

from ltx_infer.sampling.state import (
    State,
    add_noise,
    blender,
    free_state,
    freeze,
    noise_level,
    own_tokens,
)

POSITIONS = np.zeros((1, 1, 3, 2), np.float32)


def half_given() -> State:
    mask = np.array([[1.0, 0.0, 0.25]], np.float32)
    tokens, clean = mx.full((1, 3, 2), 2.0), mx.full((1, 3, 2), -1.0)
    return State(tokens, clean, mask, POSITIONS, num_tokens=2)


def test_nothing_of_a_free_state_is_given():
    state = free_state(mx.ones((1, 3, 2), mx.bfloat16), POSITIONS)
    assert state.tokens.dtype == mx.float32
    assert state.denoise_mask.tolist() == [[1, 1, 1]]
    assert noise_level(state, 0.7) == 0.7


def test_a_frozen_stream_has_no_noise_level_and_takes_none():
    state = freeze(free_state(mx.full((1, 3, 2), 5.0), POSITIONS))
    assert noise_level(state, 0.7) == 0
    assert mx.array_equal(add_noise(state, mx.ones((1, 3, 2)), 1.0), state.clean)


def test_appended_tokens_are_cut_off():
    assert own_tokens(half_given(), mx.zeros((1, 3, 2))).shape == (1, 2, 2)


def test_blender_puts_given_tokens_into_each_stream():
    states = [half_given(), freeze(free_state(mx.full((1, 1, 4), 5.0), POSITIONS))]
    video, audio = blender(states)((mx.full((1, 3, 2), 3.0), mx.zeros((1, 1, 4))))
    assert video[0, :, 0].tolist() == [3.0, -1.0, 0.0]
    assert audio.tolist() == [[[5.0] * 4]]
