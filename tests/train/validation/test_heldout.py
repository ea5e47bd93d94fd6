import mlx.core as mx
import numpy as np
import pytest

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.errors import UserError
from ltx_models.lora.linear import lora_layers
from ltx_models.text_encoder import PromptContext
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.data.batches import Scales, data_folders
from ltx_train.data.dataset import open_dataset
from ltx_train.model import load_trainable
from ltx_train.validation.heldout import LEVELS, MOST_PASSES, _pairs, heldout_loss, hold_out
from tests.train.validation.conftest import config, quiet

VIDEO = {"name": "flexible", "video": {}, "caption_dropout": 0.9}


def opened(data, **given):
    found = config(data=data, strategy=VIDEO, **given)
    return open_dataset(data, data_folders(found.training_strategy)), found


@pytest.fixture(scope="module")
def measured(data, checkpoint):
    """From a configuration and samples' numbers to their loss; the model may be given."""
    context = mx.random.normal((1, 128, 64), key=mx.random.key(1))
    scales = Scales(
        checkpoint.section("vae", VideoVAEConfig).scale,
        checkpoint.section("audio_vae", AudioVAEConfig).scale,
    )

    def contexts(one):
        assert one is not None  # no caption is dropped
        return PromptContext(context, None)

    def measured(*numbers, model=None, report=quiet, **given):
        dataset, found = opened(data, **given)
        model = model or load_trainable(checkpoint, found).model
        held = [dataset.samples[i] for i in numbers]
        return heldout_loss(model, held, dataset, contexts, found, scales=scales, report=report)

    return measured


def test_the_loss_is_the_same_whenever_it_is_measured(measured):
    both, one, other = measured(0, 1), measured(0), measured(1)
    assert both.keys() == {"loss", "video"}
    assert both == measured(0, 1)
    assert both["loss"] == pytest.approx((one["loss"] + other["loss"]) / 2, rel=1e-6)
    assert both["video"] == both["loss"] > 0
    assert measured(0, more={"seed": 7}) != one


def test_it_can_be_stopped_between_passes(measured):
    def stop(_stage, done, _total):
        if done:
            raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt, match="1"):
        measured(0, report=stop)


def test_the_loss_is_of_the_weights(measured, checkpoint, data):
    model = load_trainable(checkpoint, opened(data)[1]).model
    before = measured(0, model=model)
    assert before == measured(0)
    for layer in lora_layers(model).values():
        layer.lora_B = mx.random.normal(layer.lora_B.shape)
    assert measured(0, model=model)["loss"] != before["loss"]


def test_what_is_held_back(data):
    dataset, found = opened(data, holdout=1)
    kept, held = hold_out(dataset, found)
    assert [len(kept.samples), len(held)] == [1, 1]
    assert {one.name for one in (*kept.samples, *held)} == {"a", "sub/b"}
    assert kept.notes[-1] == f"validation.holdout: 1 never trained on: {held[0].name}"
    _, same = hold_out(*opened(data, holdout=0.1))
    assert [one.name for one in same] == [one.name for one in held]
    chosen = {
        hold_out(dataset, found.model_copy(update={"seed": seed}))[1][0].name for seed in range(16)
    }
    assert chosen == {"a", "sub/b"}
    assert hold_out(dataset, opened(data)[1]) == (dataset, [])


def test_one_sample_more_changes_little(data):
    dataset, found = opened(data, holdout=10)
    (first, _) = dataset.samples
    many = [type(first)(f"s{i}", first.conditions, first.parts) for i in range(101)]
    names = [
        {one.name for one in hold_out(dataset._replace(samples=many[:n]), found)[1]}
        for n in (100, 101)
    ]
    assert len(names[0] & names[1]) >= 9
    assert len(names[0]) == 10


def test_all_cannot_be_held_back(data):
    with pytest.raises(UserError, match=r"^validation\.holdout 2: holds back 2 of 2 samples, and"):
        hold_out(*opened(data, holdout=2))


def test_cost_is_bounded_and_levels_take_turns():
    assert sorted(_pairs("ab")) == [(one, level) for one in "ab" for level in range(4)]
    many = _pairs(range(1000))
    assert len(many) == MOST_PASSES
    counts = np.bincount([level for _, level in many])
    assert counts.tolist() == [MOST_PASSES // len(LEVELS)] * len(LEVELS)
    assert len({one for one, _ in many}) == MOST_PASSES
