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
        ({"prompt": "x", "pad": "1,2,3"}, "--pad '1,2,3': takes left,top,right,bottom in pixels"),
        ({"prompt": "x", "pad": "0,0,0,0"}, "--pad '0,0,0,0': takes left,top,right,bottom"),
        ({"prompt": "x", "pad": "-1,2,3,4"}, "--pad '-1,2,3,4': takes left,top,right,bottom"),
        (
            {"prompt": "x", "lora": [["a", "inf"]]},
            "--lora STRENGTH 'inf': Input should be a finite",
        ),
        (
            {"prompt": "x", "distilled_lora": ["a", "1", "1"]},
            "--distilled-lora ['a', '1', '1']: takes PATH STRENGTH at most",
        ),
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


def test_padding_is_left_top_right_bottom():
    assert build({"prompt": "x", "pad": "0, 64,0,32"}).pad == (0, 64, 0, 32)
    assert build({"prompt": "x", "pad": [0, 64, 0, 32]}).pad == (0, 64, 0, 32)


@pytest.mark.parametrize(("pipeline", "name"), [("dev", "output.mp4"), ("t2a", "output.wav")])
def test_the_output_has_the_ending_of_what_is_made(pipeline, name):
    assert str(build({"prompt": "x", "pipeline": pipeline}).output_path) == name
