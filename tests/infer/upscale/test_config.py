"""What may be asked of ltx-upscale together."""

import pytest

from ltx_infer.config import checked
from ltx_infer.upscale.config import UpscaleConfig, faults
from ltx_models.errors import UserError


def config(**given) -> UpscaleConfig:
    return checked(UpscaleConfig, {"input": "a.mp4", "output": "b.mp4", **given})


@pytest.mark.parametrize(
    ("given", "spatial", "name"),
    [
        ({}, True, None),
        ({"scale": 2}, True, "x2"),
        ({"scale": 1.5}, True, "x1.5"),
        ({"temporal": True}, False, None),
        ({"temporal": True, "scale": 2}, True, "x2"),
        ({"temporal": True, "spatial_upscaler": "x1.5-1.0"}, True, "x1.5-1.0"),
        ({"scale": 2, "spatial_upscaler": "mine.safetensors"}, True, "mine.safetensors"),
    ],
)
def test_which_upscalers(given, spatial, name):
    found = config(**given)
    assert (found.spatial, found.upscaler_name) == (spatial, name)


@pytest.mark.parametrize(
    ("given", "is_still", "said"),
    [
        ({"refine": True}, False, "--refine needs a --prompt that says what is seen"),
        ({"refine": True, "prompt": "  "}, False, "--refine needs a --prompt that says what"),
        ({"seed": 1, "prompt": "x"}, False, "--prompt, --seed: for --refine"),
        ({"quantize": 4}, False, "--quantize: for --refine"),
        ({"low_memory": True}, False, "--low-memory: for --refine"),
        ({"text_encoder_repo": "g"}, False, "--text-encoder-repo: for --refine"),
        ({"temporal": True}, True, "--temporal: a.mp4 is a picture, and has no frames to add to"),
    ],
)
def test_what_means_nothing(given, is_still, said):
    (fault,) = faults(config(**given), is_still=is_still)
    assert fault.startswith(said)


def test_what_means_something():
    assert not list(faults(config(), is_still=True))
    assert not list(faults(config(temporal=True, scale=1.5), is_still=False))
    assert not list(faults(config(refine=True, prompt="x", seed=3, quantize=8), is_still=False))


def test_bad_values_are_named_by_their_flags():
    with pytest.raises(UserError, match=r"--scale 3.0: the latent upscalers have 2 and 1.5"):
        config(scale=3.0)
    with pytest.raises(UserError, match="--input is required"):
        checked(UpscaleConfig, {"output": "b.mp4"})


def test_the_run_that_refines_has_the_same_models():
    asked = config(refine=True, prompt="x", model="tiny", quantize=4, scale=1.5, low_memory=True)
    made = asked.as_generated()
    assert (made.prompt, made.model, made.quantize) == ("x", "tiny", 4)
    assert (made.spatial_upscaler, made.low_memory) == ("x1.5", True)
    assert "text_encoder_repo" not in made.model_fields_set
    assert config(refine=True, prompt="x", model="ltx2-dev-4bit-mlx").as_generated().quantize == 4
    with pytest.raises(UserError, match="--quantize 8: ltx2-dev-4bit-mlx means 4 bit"):
        config(refine=True, prompt="x", model="ltx2-dev-4bit-mlx", quantize=8).as_generated()
