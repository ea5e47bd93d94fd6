import re
from io import StringIO
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from ltx_models.lora.adapters import (
    Strength,
    attach,
    detach,
    fuse,
    set_strengths,
)
from ltx_models.lora.files import LoRAError, LoRAFile, read_lora
from ltx_models.lora.fit import fit_loras
from ltx_models.lora.linear import Adapter, LoRALinear, lora_layers, weight_shape
from tests.models.lora.loras import (
    ACROSS,
    PICTURE,
    SOME,
    SOUND,
    lora_file,
    near,
    save,
    velocities,
    weights,
)
from tests.models.transformer.sizes import small_transformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("loras")


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_attached_equals_fused(alpha, folder):
    loras = [(lora_file(folder, 1, alpha=alpha), Strength(0.7))]
    base, attached, fused = (small_transformer("ltx23") for _ in range(3))
    assert attach(attached, loras) == fuse(fused, loras).fit
    assert near(attached, fused)
    assert not near(attached, base, rtol=1e-2)


def test_alpha_over_rank_scales_the_update(folder):
    plain, doubled = small_transformer("ltx23"), small_transformer("ltx23")
    fuse(plain, [(lora_file(folder, 1, rank=3), Strength(2.0))])
    fuse(doubled, [(lora_file(folder, 1, rank=3, alpha=6.0), Strength(1.0))])
    assert near(doubled, plain)


def test_two_adapters_equal_two_fused_one_after_the_other(folder):
    first = (lora_file(folder, 1), Strength(0.7))
    second = (lora_file(folder, 2, rank=5, alpha=2.0, paths=SOME), Strength(-0.3))
    attached, fused = small_transformer("ltx23"), small_transformer("ltx23")
    attach(attached, [first, second])
    fuse(fused, [first])
    fuse(fused, [second])
    assert near(attached, fused)
    layers = lora_layers(attached)
    assert layers[PICTURE].lora_A.shape == (8, 32)
    assert layers["adaln_single.linear"].lora_A.shape == (3, 32)


def test_strengths_changed_in_place_equal_separately_fused_models(folder):
    file = lora_file(folder, 1)
    attached = small_transformer("ltx23")
    attach(attached, [(file, Strength(0.25))])
    for strength in (Strength(0.25), Strength(0.5), Strength(0.5, 0.1)):
        set_strengths(attached, [strength])
        fused = small_transformer("ltx23")
        fuse(fused, [(file, strength)])
        assert near(attached, fused)


def test_changing_strengths_copies_nothing(folder):
    model = small_transformer("ltx23")
    attach(model, [(lora_file(folder, 1), Strength()), (lora_file(folder, 2), Strength())])
    mx.eval(velocities(model))
    before, memory = weights(model), mx.get_active_memory()
    set_strengths(model, [Strength(0.25), Strength(0.5)])
    mx.eval(velocities(model))
    after = weights(model)
    assert all(after[key] is value for key, value in before.items())
    assert mx.get_active_memory() - memory < before[f"{PICTURE}.base.weight"].nbytes


def test_strength_zero_is_the_base_exactly(folder):
    base, model = small_transformer("ltx23"), small_transformer("ltx23")
    attach(model, [(lora_file(folder, 1), Strength(0.0))])
    assert near(model, base, rtol=0)


def test_one_of_two_adapters_switched_off_and_on_again(folder):
    files = [lora_file(folder, 1), lora_file(folder, 2, rank=2)]
    model = small_transformer("ltx23")
    attach(model, [(file, Strength()) for file in files])
    for first, second in ((1.0, 0.0), (0.0, 0.5), (0.7, 0.5)):
        set_strengths(model, [Strength(first), Strength(second)])
        fused = small_transformer("ltx23")
        fuse(fused, [(files[0], Strength(first)), (files[1], Strength(second))])
        assert near(model, fused)


def test_sound_has_a_strength_of_its_own(folder):
    base, model = small_transformer("ltx23"), small_transformer("ltx23")
    fuse(model, [(lora_file(folder, 1, paths=SOME), Strength(0.5, 0.0))])
    changed = {
        key
        for key, value in weights(model).items()
        if not mx.array_equal(value, weights(base)[key])
    }
    assert changed == {f"{PICTURE}.weight"}


def test_number_of_strengths_is_checked(folder):
    model = small_transformer("ltx23")
    attach(model, [(lora_file(folder, 1), Strength())])
    with pytest.raises(ValueError, match="2 strengths for 1 attached adapters"):
        set_strengths(model, [Strength(), Strength()])


def test_adapters_go_on_once_and_come_off(folder):
    base, model = small_transformer("ltx23"), small_transformer("ltx23")
    loras = [(lora_file(folder, 1), Strength())]
    attach(model, loras)
    with pytest.raises(ValueError, match="has adapters already: attach all at once, or detach"):
        attach(model, loras)
    detach(model)
    assert not lora_layers(model)
    assert near(model, base, rtol=0)


def test_bfloat16_model_keeps_its_type(folder):
    attached, fused = small_transformer("ltx23"), small_transformer("ltx23")
    loras = [(lora_file(folder, 1), Strength(0.7))]
    for model, put in ((attached, attach), (fused, fuse)):
        model.set_dtype(mx.bfloat16)
        put(model, loras)
        assert {value.dtype for value in weights(model).values()} == {mx.bfloat16}
        assert {velocity.dtype for velocity in velocities(model)} == {mx.bfloat16}
    assert near(attached, fused, rtol=0.05)


@pytest.mark.parametrize(
    ("mode", "bits", "group_size"),
    [
        *(("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
        ("mxfp4", 4, 32),
        ("mxfp8", 8, 32),
        ("nvfp4", 4, 16),
    ],
)
def test_quantised_base_plus_update(mode, bits, group_size):
    base = nn.Linear(128, 32).to_quantized(group_size=group_size, bits=bits, mode=mode)
    assert weight_shape(base) == (32, 128)
    draws = [((3, 128), (32, 3)), ((2, 128), (32, 2))]
    parts = [Adapter(mx.random.normal(A), mx.random.normal(B), 2.0) for A, B in draws]
    x = mx.random.normal((2, 5, 128))
    layer = LoRALinear(base, dict(enumerate(parts)))
    layer.set_strengths([0.7, -0.3])
    inputs = np.array(x, np.float64)
    want = np.array(base(x), np.float64)
    for strength, (A, B, scale) in zip((0.7, -0.3), parts, strict=True):
        want += strength * scale * inputs @ np.array(A, np.float64).T @ np.array(B, np.float64).T
    assert np.abs(np.array(layer(x)) - want).max() <= 1e-5 * np.abs(want).max()

    layer.unfreeze(recurse=False, keys=["lora_A", "lora_B"])
    _, gradients = nn.value_and_grad(layer, lambda layer, x: layer(x).square().sum())(layer, x)
    reached = dict(tree_flatten(gradients))
    assert reached.keys() == {"lora_A", "lora_B"}
    assert all(mx.abs(value).max().item() > 0 for value in reached.values())


def test_adapters_are_not_put_together_again_at_each_call():
    layer = LoRALinear(nn.Linear(64, 32), {n: _random_adapter(rank=8) for n in range(4)})
    x = mx.random.normal((3, 64))
    for strengths in ([1.0] * 4, [0.5, 0.0, 0.2, 1.0]):
        layer.set_strengths(strengths)
        mx.eval(layer(x))
        graph = StringIO()
        mx.export_to_dot(graph, layer(x))
        assert "Matmul" in graph.getvalue()
        assert "Concatenate" not in graph.getvalue()
        assert "Gather" not in graph.getvalue()


def _random_adapter(*, rank: int) -> Adapter:
    return Adapter(mx.random.normal((rank, 64)), mx.random.normal((32, rank)), 1.0)


@settings(max_examples=25, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    strengths=st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3),
    scale=st.floats(0.25, 4),
)
def test_layer_is_its_formula(ranks, strengths, scale):
    base, x = nn.Linear(6, 5), mx.random.normal((2, 6))
    adapters = {
        n: Adapter(mx.random.normal((rank, 6)), mx.random.normal((5, rank)), scale)
        for n, rank in enumerate(ranks)
    }
    layer = LoRALinear(base, adapters)
    layer.set_strengths(strengths)
    update = sum(strengths[n] * scale * (x @ p.A.T) @ p.B.T for n, p in adapters.items())
    assert mx.allclose(layer(x), base(x) + update, rtol=1e-4, atol=1e-4)


def renamed(folder: Path, file: LoRAFile, change) -> LoRAFile:
    tensors = file.file.tensors("", file.file.infos)
    return save(folder / "renamed.safetensors", {change(k): v for k, v in tensors.items()})


def test_layer_that_is_not_in_the_model(folder):
    model = small_transformer("ltx23")
    file = renamed(folder, lora_file(folder, 1, paths=SOME), lambda key: key.replace("to_q", "q"))
    message = (
        f"{file.path}: 3 of its 3 layers are not in this model:\n"
        "transformer_blocks.0.attn1.q (nearest: transformer_blocks.0.attn1.to_"
    )
    with pytest.raises(LoRAError, match=re.escape(message)) as caught:
        attach(model, [(file, Strength())])
    assert str(caught.value).endswith("\n... and 2 more")
    assert not lora_layers(model)
    message = "none of its 3 layers is in this model, the first is transformer_blocks.0.attn1.q"
    with pytest.raises(LoRAError, match=re.escape(message)):
        attach(model, [(file, Strength())], allow_unmatched=True)


def test_a_lora_of_another_program_s_model_is_told_by_its_metadata(folder):
    layer = {f"double_blocks.0.qkv.lora_{part}": mx.ones((2, 2)) for part in "AB"}
    path = folder / "flux.safetensors"
    mx.save_safetensors(str(path), layer, {"ss_base_model_version": "flux1"})
    message = "1 of its 1 layers are not in this model, and its metadata says flux1:\n"
    with pytest.raises(LoRAError, match=re.escape(message)):
        attach(small_transformer("ltx23"), [(read_lora(path), Strength())])


def test_unmatched_layers_are_passed_over_if_asked(folder):
    model = small_transformer("ltx23")
    file = renamed(
        folder,
        lora_file(folder, 1, paths=SOME),
        lambda key: key.replace(f"{SOUND}.", "text_encoders.layers.0."),
    )
    message = "1 of its 3 layers are not in this model; --lora-allow-unmatched goes on without them"
    with pytest.raises(LoRAError, match=re.escape(message)):
        attach(model, [(file, Strength())])
    fit = attach(model, [(file, Strength())], allow_unmatched=True)
    assert sorted(fit.placed) == sorted({PICTURE, ACROSS})
    assert fit.unmatched == ("text_encoders.layers.0",)
    assert lora_layers(model).keys() == {PICTURE, ACROSS}


def test_lora_of_other_sizes(folder):
    file = lora_file(folder, 1, paths=[PICTURE], dims=(48, 40))
    message = (
        f"{file.path} was made for a model of other sizes:\n"
        f"{PICTURE}: (48, 40) in the file, (32, 32) in the model"
    )
    for put in (attach, fuse):
        with pytest.raises(LoRAError, match=re.escape(message)):
            put(small_transformer("ltx23"), [(file, Strength())])


def test_one_stream_passes_over_the_layers_of_the_other(folder):
    file = lora_file(folder, 1, paths=SOME)
    video = small_transformer("ltx23", streams=("video",))
    fit = attach(video, [(file, Strength())])
    assert fit.placed == (PICTURE,)
    assert sorted(fit.passed_over) == sorted({SOUND, ACROSS})
    fused = small_transformer("ltx23", streams=("video",))
    assert fuse(fused, [(file, Strength())]).fit == fit
    assert near(video, fused)
    audio = small_transformer("ltx23", streams=("audio",))
    assert fit_loras(audio, [file]).placed == (SOUND,)


@pytest.mark.parametrize(
    ("path", "stream", "message"),
    [
        (SOUND, "video", "it changes only the sound's layers, and this run makes no sound.\nLe"),
        (PICTURE, "audio", "it changes only the picture's layers, and this run makes no picture"),
    ],
)
def test_lora_of_the_other_stream_alone(path, stream, message, folder):
    file = lora_file(folder, 1, paths=[path])
    with pytest.raises(LoRAError, match=re.escape(f"{file.path}: {message}")):
        attach(small_transformer("ltx23", streams=(stream,)), [(file, Strength())])
