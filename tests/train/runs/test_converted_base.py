"""Training on a converted folder, quantised or not: data, checks, and what is written."""

import json
from contextlib import ExitStack
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.lora.files import read_lora
from ltx_models.quantize import quantization
from ltx_models.weights import TensorFile
from ltx_train.precompute.store import encoder_of
from ltx_train.runs.prepare import Job, prepare
from tests.models.converted.folders import tensors_of, write_folder
from tests.train.conftest import train

HOW = quantization(4)


@pytest.fixture(scope="module")
def checkpoint(tiny):
    return open_checkpoint(find_model("tiny", variant="dev").checkpoint)


@pytest.fixture(scope="module")
def four_bit(checkpoint, tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("base") / "four", checkpoint, HOW, variant="dev")


def test_an_adapter_on_a_quantised_base(configured, four_bit):
    """Its data were made with the monolith, and need not be made anew."""
    said: list[str] = []
    config = configured(f"model.model_path={four_bit}", "optimization.steps=1")
    made = train(config, said=said)
    assert f"base: {four_bit} (LTX 2.3.0, dev, affine 4 bit, groups of 32)" in said
    about = TensorFile(made.adapter).metadata
    assert about["base_quantization"] == str(HOW)
    assert len(read_lora(made.adapter).entries) == 6 * 2 * 4


def test_vaes_have_the_hashes_of_the_checkpoint(checkpoint, four_bit):
    opened = open_checkpoint(four_bit)
    for vae in ("vae", "audio_vae"):
        assert encoder_of(opened, vae) == encoder_of(checkpoint, vae)


def prepared(config) -> Job:
    with ExitStack() as stack:
        limits = {"limit": 10**12, "resume": False, "force": False}
        return prepare(config, stack, report=lambda *_: None, **limits)


def test_the_plan_counts_what_is_stored(configured, four_bit):
    job = prepared(configured(f"model.model_path={four_bit}"))
    packed = prepared(configured("acceleration.quantization=affine-4bit"))
    assert job.plan == packed.plan
    assert job.plan.weights < prepared(configured()).plan.weights
    assert job.base_hash != packed.base_hash


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (
            "acceleration.quantization=affine-8bit",
            "acceleration.quantization affine-8bit: {} is quantised as it is stored ({}).\n"
            "Leave it out, or name a base that is not quantised",
        ),
        (
            "model.training_mode=full",
            "model.training_mode full: {} is quantised as it is stored ({}), and integers cannot "
            "be trained.\nTrain an adapter (lora), or name a base that is not quantised",
        ),
    ],
)
def test_what_does_not_go_with_it(configured, four_bit, override, text):
    config = configured(f"model.model_path={four_bit}", override)
    with pytest.raises(UserError) as error:
        prepared(config)
    assert str(error.value) == text.format(four_bit, HOW)


@pytest.mark.slow
def test_all_weights_from_a_folder_give_a_whole_checkpoint(configured, checkpoint, tmp_path):
    folder = write_folder(tmp_path / "base", checkpoint)
    config = configured(
        f"model.model_path={folder}", "model.training_mode=full", "optimization.steps=1"
    )
    made = open_checkpoint(train(config).adapter)
    assert made.version == checkpoint.version
    assert json.dumps(made.config) == json.dumps(checkpoint.config)
    found, wanted = tensors_of(made), tensors_of(checkpoint)
    assert found.keys() == wanted.keys()
    same = [key for key in wanted if mx.array_equal(found[key], wanted[key]).item()]
    assert any(key.startswith("vae.") for key in same)
    assert len(same) < len(wanted)
