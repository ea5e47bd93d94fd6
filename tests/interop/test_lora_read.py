"""Adapters that peft and diffusers wrote: what we add to the weights is what they add."""

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.lora.adapters import Strength, attach, fuse
from ltx_models.lora.files import read_lora
from ltx_models.lora.linear import linears
from tests.interop.test_adapter import NAMES
from tests.models.lora.loras import near
from tests.models.transformer.sizes import small_transformer

pytestmark = pytest.mark.interop
RTOL = 2e-6  # of float32
LAYERS = (
    "transformer_blocks.0.attn1.to_q",
    "transformer_blocks.0.audio_attn2.to_out.0",
    "transformer_blocks.1.ff.net.0.proj",
    "transformer_blocks.1.audio_ff.net.2",
    "patchify_proj",
    "adaln_single.linear",
)

# Torch has a process to itself: it and MLX bring an OpenMP each.
SCRIPT = """
import json, sys
import numpy, torch, peft

folder, name, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = torch.nn.Module()
base = dict(numpy.load(f"{folder}/base.npz"))
for layer, weight in base.items():
    *parents, last = layer.split(".")
    at = model
    for parent in parents:
        if not hasattr(at, parent):
            at.add_module(parent, torch.nn.Module())
        at = getattr(at, parent)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.tensor(weight)
    at.add_module(last, linear)
config = getattr(peft, name)(target_modules=list(base), **settings)
adapted = peft.get_peft_model(model, config)
torch.manual_seed(0)
for key, value in adapted.named_parameters():
    if value.requires_grad and "magnitude" not in key:
        value.data = 0.3 * torch.randn_like(value)
    elif value.requires_grad:
        value.data *= 1.3
if len(sys.argv) > 4:
    from diffusers.loaders import LTX2LoraLoaderMixin

    layers = peft.get_peft_model_state_dict(adapted)
    layers = {key.removeprefix("base_model.model."): value for key, value in layers.items()}
    LTX2LoraLoaderMixin.save_lora_weights(
        folder, layers, transformer_lora_adapter_metadata=config.to_dict()
    )
else:
    adapted.save_pretrained(folder)
merged = adapted.merge_and_unload()
numpy.savez(f"{folder}/merged.npz", **{
    layer: merged.get_submodule(layer).weight.detach().numpy() for layer in base
})
"""
PEFT = {
    "LoRA": ("LoraConfig", {"r": 4, "lora_alpha": 10}),
    "ranks and alphas of their own": (
        "LoraConfig",
        {"r": 4, "lora_alpha": 8, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 3}},
    ),
    "rank-stabilised": ("LoraConfig", {"r": 4, "lora_alpha": 8, "use_rslora": True}),
    "DoRA": ("LoraConfig", {"r": 4, "lora_alpha": 8, "use_dora": True}),
    "LoHa": ("LoHaConfig", {"r": 2, "alpha": 6}),
    "LoKr": ("LoKrConfig", {"r": 2, "alpha": 6}),
    "LoKr, nothing factored": ("LoKrConfig", {"r": 64, "alpha": 32}),
    "LoKr, both factored": ("LoKrConfig", {"r": 1, "alpha": 2, "decompose_both": True}),
}


def write(folder: Path, name: str, settings: dict, *, names=None) -> dict[str, np.ndarray]:
    """Let peft or, with its ``names``, diffusers write; the merged weights by our names."""
    names = names or {layer: layer for layer in LAYERS}
    layers = linears(small_transformer("ltx23"))
    np.savez(folder / "base.npz", **{names[at]: np.array(layers[at].weight) for at in LAYERS})
    words = [str(folder), name, json.dumps(settings)]
    words += ["diffusers"] if names["patchify_proj"] != "patchify_proj" else []
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "merged.npz") as found:
        return {at: found[names[at]] for at in LAYERS}


def assert_read(path: Path, merged: dict[str, np.ndarray]) -> None:
    file = read_lora(path)
    fused, attached = small_transformer("ltx23"), small_transformer("ltx23")
    base, layers = linears(small_transformer("ltx23")), linears(fused)
    assert sorted(fuse(fused, [(file, Strength())]).fit.placed) == sorted(LAYERS)
    for at, want in merged.items():
        got = np.array(layers[at].weight)
        assert np.abs(got - want).max() <= RTOL * np.abs(want).max(), at
        assert np.abs(got - np.array(base[at].weight)).max() > 1e-2 * np.abs(want).max(), at
    attach(attached, [(file, Strength())])
    assert near(attached, fused, rtol=5e-5)


@pytest.mark.parametrize("kind", PEFT)
def test_what_peft_writes(kind, tmp_path):
    merged = write(tmp_path, *PEFT[kind])
    assert_read(tmp_path / "adapter_model.safetensors", merged)


@pytest.mark.parametrize("settings", [{"r": 4, "lora_alpha": 10}, {"r": 4, "use_rslora": True}])
def test_what_diffusers_writes(settings, tmp_path):
    names = {at: ".".join(NAMES.get(part, part) for part in at.split(".")) for at in LAYERS}
    merged = write(tmp_path, "LoraConfig", settings, names=names)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert all(key.startswith("transformer.") for key in mx.load(str(path)))
    assert_read(path, merged)
