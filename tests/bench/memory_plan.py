"""The memory plan of a run against what its steps take, on the model of train_step.py."""

import mlx.core as mx

from ltx_train.config import TrainConfig
from ltx_train.loss import input_maker
from ltx_train.memory.activations import StreamShape
from ltx_train.memory.plan import make_plan
from ltx_train.step import MicroBatch, make_step, new_state
from tests.bench import train_step
from tests.bench.train_step import NUM_AUDIO, NUM_CONTEXT, RANK


def measure() -> dict[str, float]:
    """The plan over the peak without and with recompute, and how far the worse one is from 1."""
    found = {name: _ratio(recompute=name == "recomputed") for name in ("plain", "recomputed")}
    return {**found, "off": max(abs(ratio - 1) for ratio in found.values())}


def _ratio(*, recompute: bool) -> float:
    before = mx.get_active_memory()
    model = train_step._model()
    model.recompute(recompute)
    batch = MicroBatch(input_maker(model)(train_step._batch(model)))
    step, state = make_step(model, max_grad_norm=1.0), new_state(model)
    mx.eval(batch, state)
    mx.reset_peak_memory()
    for _ in range(2):
        state, _ = step(state, [batch], 1e-4)
    measured = mx.get_peak_memory() - before
    config = TrainConfig.model_validate(
        {
            "model": {"model_path": "bench"},
            "lora": {"rank": RANK},
            "training_strategy": {"video": {}, "audio": {}},
            "optimization": {"batch_size": 1, "enable_gradient_checkpointing": recompute},
            "data": {"preprocessed_data_root": "bench"},
        }
    )
    shapes = {
        "video": StreamShape(1, batch.inputs["video"].tokens.shape[1], NUM_CONTEXT, False),
        "audio": StreamShape(1, NUM_AUDIO, NUM_CONTEXT, False),
    }
    return make_plan(model, config, [shapes], dtype=mx.float32, contexts=0).total / measured
