from itertools import repeat

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_models.errors import UserError
from ltx_models.lora.adapters import add_trainable
from ltx_models.lora.linear import lora_layers
from ltx_models.transformer import load_transformer
from ltx_models.transformer.patchify import patchify_audio, patchify_video
from ltx_train.config import OptimizationConfig
from ltx_train.loss import StreamBatch
from ltx_train.trainer import StepMetrics, train
from tests.conftest import GOLDEN
from tests.models.transformer.sizes import small_transformer
from tests.parity.case import read_case
from tests.parity.test_golden import compare
from tests.train.test_loss import stream

CONFIG = OptimizationConfig(steps=40, learning_rate=1e-2, scheduler_type="constant")


def run(config: OptimizationConfig = CONFIG, **changes) -> tuple[list[StepMetrics], dict]:
    mx.random.seed(0)
    model = small_transformer("ltx23", streams=("video",))
    before = dict(tree_flatten(model.parameters()))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q", "to_v", "ff.net.2"])
    batch = {"video": stream("video")._replace(**changes)}
    metrics = list(train(model, repeat(batch), config))
    after = {key.replace("base.", ""): v for key, v in tree_flatten(model.parameters())}
    assert all(mx.array_equal(after[key], value) for key, value in before.items())
    return metrics, {key: value for key, value in after.items() if key not in before}


def test_loss_falls_and_only_the_adapter_changes():
    metrics, adapter = run()
    assert [each.step for each in metrics] == list(range(1, 41))
    assert metrics[-1].loss < 0.9 * metrics[0].loss
    assert all(mx.abs(value).max() > 0 for value in adapter.values())
    assert {value.dtype for value in adapter.values()} == {mx.float32}


def test_same_seed_same_run():
    (one, adapter), (two, again) = run(), run()
    assert [(m.loss, m.grad_norm) for m in one] == [(m.loss, m.grad_norm) for m in two]
    assert all(mx.array_equal(value, again[key]) for key, value in adapter.items())


def test_rates_are_the_schedules():
    metrics, _ = run(CONFIG.model_copy(update={"steps": 4, "scheduler_type": "linear"}))
    assert [m.learning_rate for m in metrics] == pytest.approx([1e-2, 7.75e-3, 5.5e-3, 3.25e-3])


def test_a_loss_that_is_not_finite_stops_the_run():
    noise = mx.full(stream("video").noise.shape, float("inf"))
    with pytest.raises(UserError, match=r"step 1: the loss is (nan|inf).*\nTry a lower optimiz"):
        run(noise=noise)


@pytest.mark.parametrize("name", ["training_t2v", "training_av"])
def test_three_steps_equal_the_references(name):
    """Forward, gradient, clipping, AdamW: losses, norms, and what the adapter became."""
    case = read_case(GOLDEN, name)
    lora, optimizer = case.params["lora"], case.params["optimizer"]
    to_tokens = {"video": patchify_video, "audio": patchify_audio}
    streams = tuple(name for name in to_tokens if f"{name}_latents" in case.inputs)
    batch = {
        name: StreamBatch(
            x_0=to_tokens[name](case.inputs[f"{name}_latents"]),
            noise=case.inputs[f"noise.{i:03}"],
            sigma=np.array(case.inputs["sigmas"])[0],
            denoise_mask=case.expected[f"{name}.loss_mask"].astype(np.float32),
            positions=case.expected[f"{name}.positions"],
            context=case.inputs[f"context_{name}"],
        )
        for i, name in enumerate(streams)
    }
    model = load_transformer(case.checkpoint, dtype=mx.float32, streams=streams)
    add_trainable(
        model, rank=lora["rank"], alpha=lora["alpha"], target_modules=lora["target_modules"]
    )
    for path, layer in dict(lora_layers(model)).items():
        layer.lora_A = case.inputs[f"lora.{path}.lora_A.weight"]
        layer.lora_B = case.inputs[f"lora.{path}.lora_B.weight"]
    config = OptimizationConfig(
        learning_rate=optimizer["lr"],
        steps=optimizer["steps"],
        max_grad_norm=optimizer["max_grad_norm"],
        scheduler_type="constant",
    )
    metrics = list(train(model, repeat(batch), config))
    got = {
        "losses": np.array([each.loss for each in metrics]),
        "grad_norms": np.array([each.grad_norm for each in metrics]),
    }
    for path, layer in dict(lora_layers(model)).items():
        for part in ("lora_A", "lora_B"):
            got[f"final.{path}.{part}.weight"] = np.array(layer[part])
    final = {name for name in case.expected if name.startswith("final.")}
    assert final == got.keys() - {"losses", "grad_norms"}
    for name, value in got.items():
        assert compare(value, case.expected[name], case.tolerance[name]) is None, name
