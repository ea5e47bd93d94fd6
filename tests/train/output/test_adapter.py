"""The written file: its keys and values, what it says of itself, and what would be noticed."""

import hashlib
import json
import re
import struct

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from safetensors import safe_open

from ltx_models.checkpoint import open_checkpoint
from ltx_models.compensate.linear import make_compensated
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.adapters import Strength, add_trainable, attach, detach
from ltx_models.lora.files import read_lora
from ltx_models.lora.linear import LoRALinear
from ltx_models.transformer.model import Transformer
from ltx_models.weights import TensorFile
from ltx_train.optimizer import Tensors
from ltx_train.output.adapter import check_same, prune, saved_values, write_adapter, write_model
from ltx_train.output.layout import adapter_path, weight_files
from ltx_train.output.metadata import quantization_metadata
from ltx_train.step import installer, new_state
from tests.models.lora.loras import near
from tests.models.transformer.sizes import small_transformer

LAYER = "transformer_blocks.0.attn1.to_q"


def trained(*targets: str) -> tuple[Transformer, Tensors]:
    """A model, and values for its adapter that are not in it, laid out as transposes are."""
    model = small_transformer("ltx23")
    add_trainable(model, rank=4, alpha=8, target_modules=targets or ("to_q", "net.2"))
    values = {
        name: mx.random.normal(x.shape[::-1], key=mx.random.key(number)).T
        for number, (name, x) in enumerate(new_state(model).parameters.items())
    }
    return model, values


def test_the_file_has_the_values_of_training(configured, gathered):
    """As safetensors' own reader sees them: a transpose is not scrambled (spec/training.md 3)."""
    config = configured("checkpoints.precision=float32", "lora.rank=4")
    model, values = trained()
    path = write_adapter(model, config, gathered(), step=20, values=values)
    assert path == config.output / "checkpoints/lora_weights_step_00020.safetensors"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with safe_open(path, "numpy") as file:
        keys = set(file.keys())
        assert len(keys) == len(values)
        for name, value in values.items():
            there = file.get_tensor(f"diffusion_model.{name}.weight")
            factor = 2 if name.endswith("lora_B") else 1  # alpha / rank
            assert np.array_equal(there, factor * np.array(value)), name
        said = file.metadata()["modelspec.hash_sha256"]
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    assert said == f"0x{hashlib.sha256(data[8 + size :]).hexdigest()}"


def test_generation_makes_the_model_of_these_values(configured, gathered):
    model, values = trained()
    path = write_adapter(
        model, configured("checkpoints.precision=float32"), gathered(), step=1, values=values
    )
    again = small_transformer("ltx23")
    attach(again, [(read_lora(path), Strength())])
    installer(model)(values)
    assert near(again, model)


def test_bfloat16_is_rounded_once(configured, gathered):
    model, values = trained()
    path = write_adapter(model, configured(), gathered(), step=1, values=values)
    file = TensorFile(path)
    assert {info.dtype for info in file.infos.values()} == {"BF16"}
    key = f"diffusion_model.{LAYER}.lora_B.weight"
    wanted = (2 * values[f"{LAYER}.lora_B"]).astype(mx.bfloat16)
    assert mx.array_equal(file.tensors("", [key])[key], wanted)


def test_it_says_what_it_was_trained_to_be_fused_into(configured, gathered):
    model = small_transformer("ltx23")
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, _: path == LAYER)
    add_trainable(model, rank=4, alpha=8, target_modules=("attn1.to_q",), quantization_aware=True)
    values = new_state(model).parameters
    path = write_adapter(model, configured("lora.rank=4"), gathered(), step=1, values=values)
    about = TensorFile(path).metadata
    assert about["quantization_aware"] == "true"
    assert about["base_quantization"] == "affine 4 bit, groups of 32"
    assert read_lora(path).entries.keys()
    detach(model)
    make_compensated(model, {LAYER: 2})
    add_trainable(model, rank=4, alpha=8, target_modules=("attn1.to_q",))
    how = "affine 4 bit, groups of 32, compensated"
    assert quantization_metadata(model) == {"base_quantization": how}
    plain, values = trained()
    path = write_adapter(plain, configured("lora.rank=4"), gathered(), step=2, values=values)
    assert not {"quantization_aware", "base_quantization"} & TensorFile(path).metadata.keys()


def test_where_an_average_is_kept_it_is_saved():
    model, _ = trained()
    state = new_state(model)
    assert saved_values(state) is state.parameters
    state = new_state(model, keep_average=True)
    assert saved_values(state) is state.average


def test_a_layer_that_generation_does_not_have_leaves_no_file(configured, gathered):
    model, values = trained()
    model["spare"] = nn.Linear(8, 8)
    model["spare"] = next(iter(_adapted(model["spare"])))
    values |= {"spare.lora_A": mx.ones((4, 8)), "spare.lora_B": mx.ones((8, 4))}
    config = configured()
    path = adapter_path(config.output, 1)
    message = f"would not take what was trained: {path}: 1 of its 17 layers are not in this model"
    with pytest.raises(UserError, match=re.escape(message)):
        write_adapter(model, config, gathered(), step=1, values=values)
    assert not list(config.output.rglob("*.safetensors"))
    assert not list(config.output.rglob("*.unfinished"))


def _adapted(layer: nn.Linear) -> list[LoRALinear]:
    holder = nn.Module()
    holder["layer"] = layer
    add_trainable(holder, rank=4, alpha=4, target_modules=["layer"])
    return [holder["layer"]]


def test_what_is_not_finite_leaves_no_file(configured, gathered):
    model, values = trained()
    values[f"{LAYER}.lora_A"] = mx.full(values[f"{LAYER}.lora_A"].shape, float("nan"))
    with pytest.raises(UserError, match="NaN or infinity in"):
        write_adapter(model, configured(), gathered(), step=1, values=values)
    assert not weight_files(configured().output)


def test_another_value_on_the_disk_is_noticed(tmp_path):
    path, wanted = tmp_path / "a.safetensors", {"a": mx.array([1.0, -0.0]), "b": mx.ones(3)}
    write_tensors(path, wanted, {})
    check_same(path, wanted, name=path)
    for name, there, said in [
        ("a", mx.array([1.0, 0.0]), "a: not the values that were written"),
        ("a", mx.array([1.0, -0.0], mx.bfloat16), "a: not the values that were written"),
        ("b", mx.ones((3, 1)), "b: not the values that were written"),
        ("c", mx.ones(1), "unknown: c"),
    ]:
        write_tensors(path, {**wanted, name: there}, {})
        message = f"{path}: what is on the disk is not what was trained, and was removed:\n{said}"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            check_same(path, wanted, name=path)
    write_tensors(path, {"a": wanted["a"]}, {})
    with pytest.raises(UserError, match=r"removed:\nmissing: b$"):
        check_same(path, wanted, name=path)


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (-1, None, [20, 900, 99_999, 100_000]),
        (1, None, [100_000]),
        (2, None, [99_999, 100_000]),
        (2, 20, [20, 99_999, 100_000]),
        (2, 99_999, [99_999, 100_000]),
        (9, None, [20, 900, 99_999, 100_000]),
    ],
)
def test_the_last_by_step_are_kept(tmp_path, keep, best, left):
    for step in (100_000, 900, 99_999, 20):
        path = adapter_path(tmp_path, step)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "checkpoints/mine.safetensors").touch()
    removed = prune(tmp_path, keep=keep, best=best)
    assert [step for step, _ in weight_files(tmp_path)] == left
    assert len(removed) == 4 - len(left)
    assert (tmp_path / "checkpoints/mine.safetensors").exists()


def test_a_full_run_leaves_a_whole_model(configured, gathered, checkpoint):
    """That of the base but for what was trained."""
    name = f"{LAYER}.weight"
    value = checkpoint.file.tensors(TRANSFORMER, [name])[name].astype(mx.float32) + 1
    config = configured("model.training_mode=full", "checkpoints.precision=float32")
    path = write_model(checkpoint, config, gathered(), step=7, values={name: value})
    assert path == config.output / "checkpoints/model_weights_step_00007.safetensors"
    made = open_checkpoint(path)
    assert made.version == checkpoint.version
    assert made.config == checkpoint.config
    assert json.loads(made.file.metadata["config"])
    assert (made.file.metadata["steps"], "rank" in made.file.metadata) == ("7", False)
    assert made.file.infos.keys() == checkpoint.file.infos.keys()
    here = made.file.tensors("", made.file.infos)
    there = checkpoint.file.tensors("", checkpoint.file.infos)
    differ = [key for key in here if not mx.array_equal(here[key], there[key])]
    assert differ == [TRANSFORMER + name]
    assert mx.array_equal(here[TRANSFORMER + name], value)


def test_a_full_run_of_another_model(configured, gathered, checkpoint):
    config = configured("model.training_mode=full")
    with pytest.raises(UserError, match=r"has no tensor model.diffusion_model.x.weight$"):
        write_model(checkpoint, config, gathered(), step=7, values={"x.weight": mx.ones(1)})
    name = f"{LAYER}.weight"
    with pytest.raises(UserError, match=r"would not take .* does not fit Transformer"):
        write_model(checkpoint, config, gathered(), step=7, values={name: mx.ones((3, 3))})
    assert not weight_files(config.output)
