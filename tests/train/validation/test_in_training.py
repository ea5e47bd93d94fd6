"""Validation between steps: the run goes on as if there had been none, in the same memory."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.text_encoder import PromptContext
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.data.batches import Scales, data_folders, make_batches
from ltx_train.data.dataset import open_dataset
from ltx_train.model import load_trainable, start
from ltx_train.trainer import feed, train
from ltx_train.validation.clips import make_clips, saved_weights
from ltx_train.validation.heldout import heldout_loss
from ltx_train.validation.prepare import prepare_validation
from tests.train.validation.conftest import config, quiet, sample

STEPS, MEGABYTE = 4, 1 << 20
VIDEO = {"name": "flexible", "video": {}}


@pytest.fixture(scope="module")
def weights(data, files, checkpoint, tmp_path_factory):
    """The weights after four steps, and the memory in use after each validation if there are."""
    context = PromptContext(mx.random.normal((1, 128, 64), key=mx.random.key(1)), None)
    scales = Scales(
        checkpoint.section("vae", VideoVAEConfig).scale,
        checkpoint.section("audio_vae", AudioVAEConfig).scale,
    )
    given = config(
        data=data,
        strategy=VIDEO,
        samples=sample(),
        more={"optimization": {"steps": STEPS, "learning_rate": 1e-2, "ema_decay": 0.5}},
    )

    def weights(*, validate: bool):
        folder = tmp_path_factory.mktemp("run")
        dataset = open_dataset(data, data_folders(given.training_strategy))
        prepared = prepare_validation(given, checkpoint, files, dtype=mx.float32)
        model = load_trainable(checkpoint, given).model
        step, state = start(model, given)
        batches = make_batches(dataset, lambda one: context, given, scales=scales)
        fed = feed(model, batches, seed=given.seed, dropout=0.2)
        memory = []
        for new, metrics in train(step, state, fed, [1e-2] * STEPS):
            state = new
            if validate:
                with saved_weights(model, state):
                    (clip,) = make_clips(model, prepared, folder, metrics.step, report=quiet)
                    heldout_loss(
                        model,
                        dataset.samples,
                        dataset,
                        lambda one: context,
                        given,
                        scales=scales,
                        report=quiet,
                    )
                assert clip.path is not None
                memory.append(mx.get_active_memory())
        found = {name: np.array(x) for name, x in tree_flatten(model.parameters())}
        return found, memory

    return weights


def test_weights_and_memory_are_as_without_a_validation(weights):
    (plain, _), (validated, memory) = weights(validate=False), weights(validate=True)
    assert plain.keys() == validated.keys()
    assert all(np.array_equal(value, validated[name]) for name, value in plain.items())
    assert abs(memory[1] - memory[3]) < MEGABYTE
