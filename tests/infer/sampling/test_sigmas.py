from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_infer.sampling.sigmas import DISTILLED, REFINE, shifted


@given(st.integers(1, 60), st.integers(64, 12_000))
def test_falls_from_one_to_zero(num_steps, num_tokens):
    sigmas = shifted(num_steps, num_tokens=num_tokens)
    assert (sigmas[-1], len(sigmas)) == (0.0, num_steps + 1)
    assert sigmas[0] == pytest.approx(1, abs=1e-4)  # float32, in the reference's order
    assert all(a >= b for a, b in pairwise(sigmas))
    assert sigmas[-2] > 0.09


def test_last_level_is_the_terminal_one():
    assert shifted(8, terminal=0.2)[-2] == pytest.approx(0.2)


def test_no_steps():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        shifted(0)


def test_refinement_goes_on_where_the_distilled_levels_end():
    assert DISTILLED[-len(REFINE) :] == REFINE
