from itertools import repeat

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_models.errors import UserError
from ltx_models.lora.adapters import add_trainable
from ltx_models.transformer.model import BOTH
from ltx_train.step import make_step, new_state
from ltx_train.trainer import check_targets, feed, is_first_update, train
from tests.models.transformer.sizes import small_transformer
from tests.train.test_loss import stream

RATES = [1e-2] * 40


def run(rates=RATES, *, dropout: float = 0.0, accumulation: int = 1, **changes):
    """The metrics of a run on one batch, and the adapter."""
    mx.random.seed(0)
    model = small_transformer("ltx23", streams=("video",))
    before = dict(tree_flatten(model.parameters()))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q", "to_v", "ff.net.2"])
    given = feed(
        model, repeat({"video": stream("video")._replace(**changes)}), seed=1, dropout=dropout
    )
    step = make_step(model, max_grad_norm=1.0, dropout=dropout)
    told = []
    state = new_state(model)
    for new, metrics in train(step, state, given, rates, accumulation=accumulation):
        told.append(metrics)
        state = new
    after = {key.replace("base.", ""): v for key, v in tree_flatten(model.parameters())}
    assert all(mx.array_equal(after[key], value) for key, value in before.items())
    assert all(mx.array_equal(after[key], value) for key, value in state.parameters.items())
    return told, state.parameters


def test_loss_falls_and_only_the_adapter_changes():
    metrics, adapter = run()
    assert [each.step for each in metrics] == list(range(1, 41))
    assert metrics[-1].loss < 0.9 * metrics[0].loss
    assert all(mx.abs(value).max() > 0 for value in adapter.values())
    assert metrics[0].adapter_norm < metrics[-1].adapter_norm


def test_same_seed_same_run():
    (one, adapter), (two, again) = run(RATES[:5], dropout=0.5), run(RATES[:5], dropout=0.5)
    assert [(m.loss, m.grad_norm) for m in one] == [(m.loss, m.grad_norm) for m in two]
    assert all(mx.array_equal(value, again[key]) for key, value in adapter.items())
    assert len({m.loss for m in one}) == 5


def test_losses_are_told_by_stream_and_by_quarter_of_the_level():
    (metrics,), _ = run(RATES[:1], accumulation=2)
    assert metrics.losses == {"video": pytest.approx(metrics.loss)}
    low, high = metrics.quarters["video"][1], metrics.quarters["video"][3]  # 0.3 and 0.8
    assert metrics.quarters["video"] == [None, low, None, high]
    assert (low + high) / 2 == pytest.approx(metrics.loss)


def test_a_run_goes_on_as_if_it_had_not_stopped():
    """From its state, the number of steps done, and batches by their number."""
    batches = [
        {
            "video": stream("video")._replace(
                noise=mx.random.normal((2, 12, 6), key=mx.random.key(i))
            )
        }
        for i in range(8)
    ]

    def go_on(state, done):
        given = feed(model, batches[2 * done :], seed=1, dropout=0.3, start=2 * done)
        step = make_step(model, max_grad_norm=1.0, dropout=0.3)
        return list(train(step, state, given, RATES[:4], accumulation=2, done=done))

    mx.random.seed(0)
    model = small_transformer("ltx23", streams=("video",))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q"])
    whole = go_on(new_state(model), 0)
    rest = go_on(whole[1][0], 2)
    assert [m._replace(seconds=0) for _, m in rest] == [m._replace(seconds=0) for _, m in whole[2:]]
    for name, x in whole[-1][0].parameters.items():
        assert mx.array_equal(x, rest[-1][0].parameters[name]), name


def test_steps_that_are_not_finite_are_skipped_and_five_in_a_row_stop_the_run():
    model = small_transformer("ltx23", streams=("video",))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q"])
    fine = {"video": stream("video")}
    bad = {"video": fine["video"]._replace(noise=mx.full((2, 12, 6), float("inf")))}
    given = feed(model, [bad, fine, bad, bad, bad, bad, bad, fine], seed=0)
    run = train(make_step(model, max_grad_norm=1.0), new_state(model), given, RATES[:8])
    told = [next(run)[1].skipped_in_a_row for _ in range(7)]
    with pytest.raises(UserError, match=r"step 7: for 5 steps in a row loss or gradient") as e:
        next(run)
    assert told == [1, 0, 1, 2, 3, 4, 5]
    assert "Try a lower optimization.learning_rate" in str(e.value)
    assert len(str(e.value).splitlines()) <= 4


def test_a_run_that_goes_on_after_five_such_steps_stops_at_the_next_one():
    model = small_transformer("ltx23", streams=("video",))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q"])
    bad = {"video": stream("video")._replace(noise=mx.full((2, 12, 6), float("inf")))}
    state = new_state(model)._replace(skipped_in_a_row=mx.array(5, mx.int32))
    step = make_step(model, max_grad_norm=1.0)
    run = train(step, state, feed(model, [bad, bad], seed=0), RATES, done=5)
    assert next(run)[1].skipped_in_a_row == 6
    with pytest.raises(UserError, match="step 6: for 6 steps in a row"):
        next(run)


def test_a_run_without_any_finite_step_is_an_error():
    model = small_transformer("ltx23", streams=("video",))
    add_trainable(model, rank=2, alpha=2, target_modules=["to_q"])
    bad = {"video": stream("video")._replace(noise=mx.full((2, 12, 6), float("inf")))}
    given = feed(model, [bad, bad], seed=0)
    run = train(make_step(model, max_grad_norm=1.0), new_state(model), given, RATES[:2])
    told = [next(run)[1] for _ in range(2)]
    assert not any(np.isfinite([each.loss, each.losses["video"]]).any() for each in told)
    with pytest.raises(UserError, match="step 2: for 2 steps in a row"):
        next(run)


def first_step(targets: list[str], *, streams=BOTH, frozen: str):
    model = small_transformer("ltx23", streams=streams)
    add_trainable(model, rank=2, alpha=2, target_modules=targets)
    batch = {name: stream(name) for name in streams}
    num_tokens = batch[frozen].x_0.shape[1]
    batch[frozen] = batch[frozen]._replace(
        noise=None,
        sigma=np.zeros(2, np.float32),
        denoise_mask=np.zeros((2, num_tokens), np.float32),
    )
    step = make_step(model, max_grad_norm=1.0)
    ((state, metrics),) = train(step, new_state(model), feed(model, [batch], seed=0), [1e-3])
    assert is_first_update(state, metrics)
    return state


def test_a_target_without_gradient_is_named():
    state = first_step(["to_q", "audio_proj_out"], frozen="audio")
    with pytest.raises(UserError, match=r"'audio_proj_out' gets no gradient: what audio_proj_out"):
        check_targets(state, ["to_q", "audio_proj_out"])


def test_layers_without_gradient_of_a_target_that_has_one_are_listed():
    """The last block's attention of a sound that is given to the picture feeds nothing."""
    state = first_step(["to_q"], frozen="audio")
    assert check_targets(state, ["to_q"]) == ["transformer_blocks.1.video_to_audio_attn.to_q"]
