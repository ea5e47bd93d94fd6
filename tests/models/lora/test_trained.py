import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors import safe_open

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.adapters import (
    Strength,
    add_trainable,
    attach,
    fuse,
    load_trainable,
    lora_tensors,
)
from ltx_models.lora.files import LoRAError, read_lora
from ltx_models.lora.linear import lora_layers
from ltx_models.transformer.model import Transformer
from ltx_models.weights import WeightsError
from tests.models.lora.loras import (
    PICTURE,
    near,
)
from tests.models.transformer.sizes import small_modality, small_transformer


def test_trainable_adapter_starts_at_the_base():
    base, model = small_transformer("ltx23"), small_transformer("ltx23")
    paths = add_trainable(model, rank=4, alpha=8, target_modules=["attn1.to_q", "net.2"])
    assert len(paths) == 2 * (1 + 2)
    assert paths == sorted(lora_layers(model))
    assert near(model, base, rtol=0)
    layer = lora_layers(model)[PICTURE]
    bound = 1 / 32**0.5
    assert bound / 2 < mx.abs(layer.lora_A).max().item() <= bound
    assert layer.scales == (2.0,)


def test_gradient_reaches_only_the_adapter():
    model = small_transformer("ltx23")
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, _: path == PICTURE)
    paths = add_trainable(model, rank=4, alpha=4, target_modules=["attn1.to_q"])
    expected = {f"{path}.{name}" for path in paths for name in ("lora_A", "lora_B")}
    assert dict(tree_flatten(model.trainable_parameters())).keys() == expected
    video = small_modality(model, "video")

    def loss(model):
        return model(video, None)[0].astype(mx.float32).square().mean()

    _, tree = nn.value_and_grad(model, loss)(model)
    gradients = dict(tree_flatten(tree))
    assert gradients.keys() == expected
    assert {gradient.dtype for gradient in gradients.values()} == {mx.float32}
    assert mx.abs(gradients[f"{PICTURE}.lora_B"]).max().item() > 0
    assert mx.abs(gradients[f"{PICTURE}.lora_A"]).max().item() == 0  # since lora_B is zero


def test_target_that_names_nothing():
    model = small_transformer("ltx23")
    message = "lora.target_modules: no linear layer is named 'q', 'o_q'.\nNames in this model: "
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        add_trainable(model, rank=4, alpha=4, target_modules=["to_q", "q", "o_q"])
    assert "linear_1, linear_2, net.2, patchify_proj, proj, proj_out, to_gate_l" in str(
        caught.value
    )
    assert not lora_layers(model)


def trained(seed: int = 0, *, rank: int = 4) -> Transformer:
    model = small_transformer("ltx23")
    add_trainable(model, rank=rank, alpha=8, target_modules=["to_q", "net.2"])
    for number, layer in enumerate(lora_layers(model).values()):
        layer.lora_B = mx.random.normal(layer.lora_B.shape, key=mx.random.key(seed + number))
    return model


def test_saved_adapter_makes_the_model_that_was_trained(tmp_path):
    model, path = trained(), tmp_path / "a.safetensors"
    write_tensors(path, lora_tensors(model), {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with safe_open(path, "numpy") as file:
        kept = file.get_tensor(f"diffusion_model.{PICTURE}.lora_B.weight")
    assert np.array_equal(kept, 2 * np.array(lora_layers(model)[PICTURE].lora_B))  # alpha / rank
    loras = [(read_lora(path), Strength())]
    for put in (attach, fuse):
        again = small_transformer("ltx23")
        put(again, loras)
        assert near(again, model)


def test_saved_adapter_is_trained_on(tmp_path):
    model, path = trained(), tmp_path / "a.safetensors"
    write_tensors(path, lora_tensors(model), {})
    again = trained(100)
    load_trainable(again, read_lora(path))
    for name, layer in lora_layers(model).items():
        assert mx.array_equal(lora_layers(again)[name].lora_A, layer.lora_A)
        assert mx.array_equal(lora_layers(again)[name].lora_B, layer.lora_B)


def test_adapter_of_another_run(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, lora_tensors(trained(rank=2)), {})
    message = (
        f"{path} does not fit the adapter to be trained:\ntransformer_blocks.0.attn1.to_q: rank, "
        "out, in are (2, 32, 32) in the file, (4, 32, 32) would fit"
    )
    with pytest.raises(LoRAError, match=re.escape(message)):
        load_trainable(trained(), read_lora(path))
    other = small_transformer("ltx23")
    add_trainable(other, rank=2, alpha=2, target_modules=["adaln_single.linear"])
    with pytest.raises(LoRAError, match=r"missing: adaln_single\.linear\n\.\.\. and \d+ more$"):
        load_trainable(other, read_lora(path))


def test_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    model, path = trained(), tmp_path / "a.safetensors"
    path.write_text("earlier")

    def fail(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(WeightsError, match="cannot be written: disk full"):
        write_tensors(path, lora_tensors(model), {})
    assert [file.read_text() for file in tmp_path.iterdir()] == ["earlier"]
