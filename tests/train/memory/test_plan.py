"""The memory plan against what is measured, and what it says where a run does not fit."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.lora.adapters import add_trainable
from ltx_models.lora.linear import lora_layers
from ltx_models.quantize import quantization, quantize
from ltx_models.released import LTX_2_3
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.patchify import AudioScale, VideoScale, audio_positions, video_positions
from ltx_train.data.dataset import open_dataset
from ltx_train.loss import StreamBatch, input_maker
from ltx_train.memory.activations import StreamShape
from ltx_train.memory.fit import check_fit
from ltx_train.memory.merges import Merges, count_merges
from ltx_train.memory.plan import (
    GB,
    Plan,
    batch_shapes,
    make_plan,
)
from ltx_train.model import load_trainable
from ltx_train.step import MicroBatch, make_step, new_state

NUM_AUDIO = 16
SIZES = {
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "cross_attention_dim": 128,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": 64,
    "connector_num_attention_heads": 4,
    "connector_attention_head_dim": 32,
    "audio_connector_num_attention_heads": 4,
    "audio_connector_attention_head_dim": 16,
}
TARGETS = ("to_k", "to_q", "to_v", "to_out.0")
CHECKPOINTING = "optimization.enable_gradient_checkpointing=true"


def sized_model() -> Transformer:
    mx.random.seed(0)
    model = Transformer(TransformerConfig.read({**LTX_2_3["transformer"], **SIZES}))
    mx.eval(model.parameters())
    return model


def inputs(model: Transformer, shapes) -> MicroBatch:
    """Noise of these shapes; where tokens differ, the first of them are given."""
    config, batch = model.config, {}
    at = {
        "video": video_positions((4, 8, 8), fps=24, scale=VideoScale(8, 32)),
        "audio": audio_positions(NUM_AUDIO, scale=AudioScale(16000, 160, 4)),
    }
    sizes = {
        "video": (config.in_channels, config.cross_attention_dim),
        "audio": (config.audio_in_channels, config.audio_cross_attention_dim),
    }
    for name, shape in shapes.items():
        channels, width = sizes[name]
        mask = np.ones((shape.batch, shape.num_tokens), np.float32)
        mask[:, : 4 * shape.per_token] = 0
        batch[name] = StreamBatch(
            x_0=mx.random.normal((*mask.shape, channels)),
            noise=mx.random.normal((*mask.shape, channels)),
            sigma=np.full(shape.batch, 0.6, np.float32),
            denoise_mask=mask,
            positions=at[name].repeat(shape.batch, axis=0),
            context=mx.random.normal((shape.batch, shape.num_context, width)),
        )
    return MicroBatch(input_maker(model)(batch))


def measured(model: Transformer, shapes) -> int:
    """The peak of two steps, with the model and the state."""
    batch = inputs(model, shapes)
    step, state = make_step(model, max_grad_norm=1.0), new_state(model)
    mx.eval(batch, state)
    mx.clear_cache()
    mx.reset_peak_memory()
    for _ in range(2):
        state, _ = step(state, [batch], 1e-4)
    return mx.get_peak_memory()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("video", "audio"),
    [
        (StreamShape(1, 256, 32, False), StreamShape(1, NUM_AUDIO, 32, False)),
        (StreamShape(2, 256, 128, True), StreamShape(2, NUM_AUDIO, 128, False)),
    ],
)
def test_the_plan_of_a_step_is_what_it_takes(configured, video, audio, recompute):
    before = mx.get_active_memory()
    model, shapes = sized_model(), {"video": video, "audio": audio}
    add_trainable(model, rank=8, alpha=8, target_modules=TARGETS)
    model.recompute(recompute)
    peak = measured(model, shapes) - before
    config = configured(CHECKPOINTING) if recompute else configured()
    plan = make_plan(model, config, [shapes], dtype=mx.float32, contexts=0)
    assert 0.85 < plan.total / peak < 1.15


def test_weights_and_state_are_exact(configured):
    model = sized_model()
    whole = model.parameters()
    bytes_of_all = sum(x.nbytes for x in leaves(whole))
    shapes = {"video": StreamShape(1, 4, 4, False), "audio": StreamShape(1, 4, 4, False)}
    add_trainable(model, rank=8, alpha=8, target_modules=TARGETS)
    trained = sum(x.nbytes for x in leaves(model.trainable_parameters()))
    plan = make_plan(model, configured(), [shapes], dtype=mx.float32, contexts=5)
    assert (plan.weights, plan.state, plan.contexts) == (bytes_of_all, 3 * trained, 5)
    half = make_plan(model, configured(), [shapes], dtype=mx.bfloat16, contexts=5)
    assert half.weights == bytes_of_all // 2
    averaged = configured("optimization.ema_decay=0.9")
    assert make_plan(model, averaged, [shapes], dtype=mx.float32, contexts=0).state == 4 * trained


def leaves(tree) -> list[mx.array]:
    if isinstance(tree, mx.array):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree
    return [x for value in values for x in leaves(value)]


def test_all_weights_are_in_the_state(configured):
    """In float32 they are the model's own; of a base in bfloat16 they are beside it."""
    model = sized_model()
    model.unfreeze()
    size = sum(x.size for x in leaves(model.parameters()))
    shapes = {"video": StreamShape(1, 4, 4, False), "audio": StreamShape(1, 4, 4, False)}
    config = configured("lora=null", "model.training_mode=full")
    single = make_plan(model, config, [shapes], dtype=mx.float32, contexts=0)
    half = make_plan(model, config, [shapes], dtype=mx.bfloat16, contexts=0)
    assert (single.weights, single.state) == (0, 12 * size)
    assert (half.weights, half.state) == (2 * size, 12 * size)


def test_a_quantised_base_is_counted_as_it_is(configured):
    model, lazy = sized_model(), sized_model()
    quantize(model, quantization(4))
    quantize(lazy, quantization(4), evaluate=False)
    shapes = {"video": StreamShape(1, 4, 4, False), "audio": StreamShape(1, 4, 4, False)}
    for each in (model, lazy):
        add_trainable(each, rank=2, alpha=2, target_modules=TARGETS)
    size = sum(x.nbytes for x in leaves(model.parameters()))
    trained = sum(x.nbytes for x in leaves(model.trainable_parameters()))
    plan = make_plan(lazy, configured(), [shapes], dtype=mx.float32, contexts=0)
    assert plan.weights == size - trained


def test_adapters_that_see_their_merge_take_what_they_make(configured):
    shapes = {"video": StreamShape(1, 256, 4, False), "audio": StreamShape(1, NUM_AUDIO, 4, False)}
    peaks, plans = [], []
    for aware in (False, True):
        before = mx.get_active_memory()
        model = sized_model()
        quantize(model, quantization(4))
        every = (*TARGETS, "net.0.proj", "net.2")
        add_trainable(model, rank=8, alpha=8, target_modules=every, quantization_aware=aware)
        peaks.append(measured(model, shapes) - before)
        plans.append(make_plan(model, configured(), [shapes], dtype=mx.float32, contexts=0))
        if not aware:
            assert count_merges(model, recompute=False) == Merges(0, 0)
            del model  # or it would count in what is held before the other one
    packed = sum(x.nbytes for layer in lora_layers(model).values() for x in stored(layer))
    largest = 3 * 4 * 128 * 512
    assert count_merges(model, recompute=False) == Merges(packed, largest)
    assert count_merges(model, recompute=True) == Merges(packed // 4, largest)
    assert plans[1].step - plans[0].step == packed + largest
    assert peaks[1] > peaks[0]
    for plan, peak in zip(plans, peaks, strict=True):
        assert 0.85 < plan.total / peak < 1.2


def stored(layer) -> list[mx.array]:
    return [layer.base.weight, layer.base.scales, layer.base.biases]


def test_shapes_of_a_data_set(configured, data):
    samples = open_dataset(data, {"latents": "video"}).samples
    config = configured("training_strategy.video.conditions=[{type: first_frame}]")
    assert batch_shapes(samples, config) == [{"video": StreamShape(1, 4, 1024, True)}]
    two = configured("optimization.batch_size=2")
    assert batch_shapes(samples, two) == [{"video": StreamShape(2, 4, 1024, False)}]


PLAN = Plan(weights=int(30 * GB), state=int(2 * GB), contexts=0, step=int(20 * GB))


def said(config, limit: float, plan_of, plan: Plan = PLAN) -> list[str]:
    with pytest.raises(UserError) as error:
        check_fit(plan, config, int(limit * GB), plan_of=plan_of)
    return str(error.value).splitlines()


def plan_of(config) -> Plan:
    """As a model of 30 GB would do it."""
    bits = config.acceleration.bits or 16
    step = 4 if config.optimization.enable_gradient_checkpointing else 20
    step *= config.optimization.batch_size
    return PLAN._replace(weights=int(30 * GB * bits / 16), step=int(step * GB))


def test_the_least_change_that_fits_is_named(configured):
    assert said(configured(), 40, plan_of) == [
        "memory: there are 40.00 GB for a run here, and this one takes 52.00 GB: weights 30.00, "
        "what is trained, with its optimizer 2.00, contexts 0.00, a step 20.00.",
        f"{CHECKPOINTING} would take 36.00 GB",
    ]
    check_fit(PLAN, configured(), int(52 * GB), plan_of=plan_of)


def test_changes_are_named_together_where_one_is_too_little(configured):
    both = f"{CHECKPOINTING} acceleration.quantization=affine-8bit would take 21.00 GB"
    assert said(configured(), 25, plan_of)[1] == both
    four = configured(CHECKPOINTING, "acceleration.quantization=affine-8bit")
    assert said(four, 14, plan_of)[1] == "acceleration.quantization=affine-4bit would take 13.50 GB"


def test_a_batch_of_one_is_named_with_its_accumulation(configured):
    config = configured(CHECKPOINTING, "optimization.batch_size=4")
    words = "optimization.batch_size=1 optimization.gradient_accumulation_steps=4"
    assert said(config, 40, plan_of)[1] == f"{words} would take 36.00 GB"


def test_a_lower_rank_is_the_last(configured):
    def plan_of_rank(config) -> Plan:
        return PLAN._replace(state=int(config.lora.rank * GB))

    config = configured("lora.rank=64")
    plan = plan_of_rank(config)
    assert said(config, 70, plan_of_rank, plan)[1] == "lora.rank=16 would take 66.00 GB"


def test_what_no_change_makes_fit(configured):
    lines = said(configured(), 5, plan_of)
    assert lines[1] == (
        f"Even {CHECKPOINTING} acceleration.quantization=affine-8bit "
        "acceleration.quantization=affine-4bit would take 13.50 GB; make the clips smaller: "
        "ltx-precompute --resolution-buckets, or train fewer lora.target_modules"
    )
    full = configured("lora=null", "model.training_mode=full", CHECKPOINTING)
    assert said(full, 5, plan_of)[1].startswith("Make the clips smaller")


def test_a_text_encoder_that_does_not_fit(configured):
    plan = PLAN._replace(encoder=int(24 * GB))
    first, second = said(configured(), 20, plan_of, plan)
    assert first.endswith("a step 20.00; before that the text encoder, 24.00.")
    assert second.startswith("Name a quantised text encoder with model.text_encoder_path")


def test_the_shapes_alone_are_made(configured, tiny):
    """Of what would fill any memory nothing is there."""
    found = open_checkpoint(find_model("tiny", variant="dev").checkpoint)
    config, before = configured("lora.rank=100000"), mx.get_active_memory()
    model = load_trainable(replace(found, header_only=True), config).model
    shapes = [{"video": StreamShape(1, 4, 1024, False)}]
    assert make_plan(model, config, shapes, dtype=mx.float32, contexts=0).total > 1e10
    assert mx.get_active_memory() - before < 5e7
