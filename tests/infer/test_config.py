import pytest

from ltx_infer.config import build
from ltx_models.errors import UserError


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({}, {}),
        ({"width": 511}, {"width": (512, "a multiple of 64")}),
        ({"width": 10}, {"width": (64, "a multiple of 64")}),
        ({"height": 96, "one_stage": True}, {}),
        ({"height": 95, "one_stage": True}, {"height": (96, "a multiple of 32")}),
        ({"num_frames": 34}, {"num_frames": (33, "a multiple of 8 plus 1")}),
        ({"num_frames": 1}, {}),
        ({"num_frames": 8}, {"num_frames": (9, "a multiple of 8 plus 1")}),
    ],
)
def test_sizes(given, faults):
    assert build({"prompt": "x", **given}).size_faults() == faults


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "--prompt is required"),
        ({"prompt": ""}, "--prompt is required"),
        ({"prompt": "x", "fps": 0}, "--fps 0: Input should be greater than or equal to 1"),
        ({"prompt": "x", "fps": float("nan")}, "--fps nan: Input should be"),
        ({"prompt": "x", "seed": -1}, "--seed -1: Input should be greater than or equal to 0"),
        ({"prompt": "x", "num_frames": 0}, "--num-frames 0: Input should be greater than 0"),
    ],
)
def test_bad_values_name_their_flag(given, problem):
    with pytest.raises(UserError) as error:
        build(given)
    assert str(error.value).startswith(problem)


def test_all_problems_at_once():
    with pytest.raises(UserError) as error:
        build({"fps": 0, "seed": -1})
    assert len(str(error.value).splitlines()) == 3
