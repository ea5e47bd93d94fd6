import json

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_models.config import ConfigError
from ltx_models.statistics import PerChannelStatistics
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig, load_upsampler, upsample
from ltx_models.weights import TensorFile, WeightsError, torch_layout
from tests.conftest import GOLDEN

SMALL = {"in_channels": 4, "mid_channels": 32, "num_blocks_per_stage": 2}
TIMES_1_5 = {"spatial_scale": 1.5, "rational_resampler": True}
TEMPORAL = {"spatial_upsample": False, "temporal_upsample": True}


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(0)


def build(**changes) -> LatentUpsampler:
    return LatentUpsampler(UpsamplerConfig.read({**SMALL, **changes}))


@pytest.fixture
def saved(tmp_path):
    """Write an upsampler of the given configuration, with keys renamed and metadata as told."""

    def save(changes, *, rename=("", ""), drop=(), metadata=None):
        weights = torch_layout(build(**changes))
        tensors = {key.replace(*rename): value for key, value in weights.items() if key not in drop}
        path = tmp_path / "upsampler.safetensors"
        told = {"config": json.dumps({**SMALL, **changes})}
        mx.save_safetensors(str(path), tensors, told if metadata is None else metadata)
        return path

    return save


@pytest.mark.parametrize(
    ("changes", "wanted"), [({}, 497_867_904), (TIMES_1_5, 545_058_944)], ids=["x2", "x1.5"]
)
def test_parameters_of_the_released_sizes(changes, wanted):
    before = mx.get_active_memory()
    model = LatentUpsampler(UpsamplerConfig.read({"mid_channels": 1024, **changes}))
    trained = tree_flatten(model.trainable_parameters())  # without the stored blur
    assert sum(value.size for _, value in trained) == wanted
    assert mx.get_active_memory() - before < 2**16  # nothing is allocated until it is used


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, (3, 6, 10)),
        (TIMES_1_5, (3, 5, 8)),
        ({"spatial_scale": 0.75, "rational_resampler": True}, (3, 3, 4)),
        ({"spatial_scale": 4.0, "rational_resampler": True}, (3, 12, 20)),
        (TEMPORAL, (5, 3, 5)),
    ],
)
def test_sizes(changes, wanted):
    assert build(**changes)(mx.random.normal((2, 4, 3, 3, 5))).shape == (2, 4, *wanted)


def test_statistics_are_taken_off_and_put_back():
    model, statistics = build(), PerChannelStatistics(4)
    statistics["mean-of-means"] = mx.array([1.0, -2.0, 0.5, 3.0])
    statistics["std-of-means"] = mx.array([0.5, 1.5, 2.0, 1.0])
    latents = mx.random.normal((1, 4, 2, 3, 3))
    mean, std = (statistics[key].reshape(4, 1, 1, 1) for key in ("mean-of-means", "std-of-means"))
    wanted = (model(latents * std + mean) - mean) / std
    assert mx.allclose(upsample(model, latents, statistics=statistics), wanted, atol=1e-5)


def test_the_blur_keeps_a_constant_picture_away_from_its_border():
    model = build(**TIMES_1_5)
    x = mx.ones((1, 8, 8, 32))
    assert mx.allclose(model.upsampler.blur_down(x)[:, 1:-1, 1:-1], mx.ones((1, 2, 2, 32)))


def test_file_and_module_agree_on_the_blur():
    stored = TensorFile(GOLDEN / "upscaler-x1.5-tiny.safetensors").tensors(
        "", ["upsampler.blur_down.kernel"]
    )
    (kernel,) = stored.values()
    assert np.array_equal(np.array(kernel), np.array(build(**TIMES_1_5).upsampler.blur_down.kernel))


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("key", ["upsampler.0.", "upsampler.conv."])
def test_both_layouts_of_twice_the_size(saved, said, key):
    latents = mx.random.normal((1, 4, 2, 3, 3))
    mx.random.seed(1)
    wanted = build()(latents)
    mx.random.seed(1)
    metadata = {"config": json.dumps({**SMALL, "rational_resampler": said})}
    path = saved({}, rename=("upsampler.0.", key), metadata=metadata)
    got = load_upsampler(path, dtype=mx.float32)
    assert f"{key}weight" in dict(tree_flatten(got.parameters()))
    assert mx.allclose(got(latents), wanted, atol=1e-5)


def test_a_blur_is_passed_over_where_nothing_is_blurred(saved, tmp_path):
    path = saved({"rational_resampler": True})
    file = TensorFile(path)
    tensors = file.tensors("", file.infos) | {"upsampler.blur_down.kernel": mx.ones((1, 1, 5, 5))}
    mx.save_safetensors(str(tmp_path / "with.safetensors"), tensors, file.metadata)
    latents = mx.random.normal((1, 4, 1, 2, 2))
    with_blur = load_upsampler(tmp_path / "with.safetensors", dtype=mx.float32)
    assert mx.array_equal(with_blur(latents), load_upsampler(path, dtype=mx.float32)(latents))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rational_resampler": True},
        {"spatial_scale": 4.0, "rational_resampler": True},
        TEMPORAL,
    ],
)
def test_a_file_without_configuration_is_recognised(saved, changes):
    got = load_upsampler(saved(changes, metadata={}), dtype=mx.float32)
    assert got.config == UpsamplerConfig.read({**SMALL, **changes})


def test_dtype(saved):
    model = load_upsampler(saved(TIMES_1_5), dtype=mx.bfloat16)
    assert {value.dtype for _, value in tree_flatten(model.parameters())} == {mx.bfloat16}
    assert model(mx.random.normal((1, 4, 1, 2, 2))).dtype == mx.bfloat16


def test_a_scale_of_two_meanings_is_an_error(saved):
    with pytest.raises(
        ConfigError, match=r"has no config, and its tensors fit the scales 0.75 and 1.5"
    ):
        load_upsampler(saved(TIMES_1_5, metadata={}), dtype=mx.float32)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON: "), ("[]", r"is not a JSON object, but \[\]")],
)
def test_metadata_that_are_not_json(saved, text, message):
    with pytest.raises(
        ConfigError, match=rf"sampler\.safetensors: its metadata's config {message}"
    ):
        load_upsampler(saved({}, metadata={"config": text}), dtype=mx.float32)


def test_layers_of_no_shape(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"initial_conv.weight": mx.zeros(()), "final_conv.weight": mx.zeros(())}
    mx.save_safetensors(str(path), tensors)
    with pytest.raises(WeightsError, match=r"not a latent upsampler: its initial_conv is \(\)"):
        load_upsampler(path, dtype=mx.float32)


def test_a_file_that_is_no_upsampler():
    path = GOLDEN / "ltx2-tiny.safetensors"
    with pytest.raises(WeightsError, match=r"not a latent upsampler: it has no final_conv.weight"):
        load_upsampler(path, dtype=mx.float32)


def test_a_weight_that_is_missing(saved):
    path = saved({}, drop=["res_blocks.1.norm2.bias"])
    with pytest.raises(WeightsError, match=r"missing: res_blocks.1.norm2.bias"):
        load_upsampler(path, dtype=mx.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_upsample": False}, "spatial_upsample and temporal_upsample are both False"),
        ({"temporal_upsample": True}, "spatial_upsample and temporal_upsample are both True"),
        ({"spatial_scale": 1.5}, "spatial_scale: 1.5, but only 2.0 is computed here with"),
        (
            {"spatial_scale": 3.0, "rational_resampler": True},
            "spatial_scale: 3.0, but only 0.75, 1.5, 2.0, 4.0 is computed here with",
        ),
        ({"mid_channels": 48}, "config.mid_channels: Input should be a multiple of 32"),
        ({"dims": 2}, "config.dims: 2, but only 3 is computed here"),
        ({"scale": 2}, "config.scale: unknown key"),
    ],
)
def test_configurations_that_are_not_computed(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)
