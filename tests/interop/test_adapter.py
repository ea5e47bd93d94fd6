"""An adapter of ours, loaded by diffusers and by peft: what each adds to the weights is ours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.lora.adapters import add_trainable
from ltx_models.lora.linear import linears, lora_layers
from ltx_train.config import read_config
from ltx_train.output.adapter import write_adapter
from tests.models.transformer.sizes import SMALL, small_transformer
from tests.train.config.conftest import VALID
from tests.train.report.made_run import FACTS

pytestmark = pytest.mark.interop
RANK, ALPHA = 4, 10
RTOL = 1e-6  # of float32

# Torch has a process to itself: it and MLX bring an OpenMP each.
DIFFUSERS = """
import json, sys
import numpy, torch
from diffusers import LTX2VideoTransformer3DModel
from diffusers.loaders import LTX2LoraLoaderMixin

path, sizes, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
model = LTX2VideoTransformer3DModel(**sizes)
before = {name: x.clone() for name, x in model.state_dict().items()}
tensors = LTX2LoraLoaderMixin.lora_state_dict(path)
LTX2LoraLoaderMixin.load_lora_into_transformer(tensors, model, adapter_name="a")
layers = {n.rpartition(".lora_A.")[0] for n, _ in model.named_parameters() if ".lora_A." in n}
assert len(layers) * 2 == len(tensors), (len(layers), len(tensors))
model.fuse_lora()
model.unload_lora()
after = model.state_dict()
numpy.savez(out, **{n: (after[f"{n}.weight"] - before[f"{n}.weight"]).numpy() for n in layers})
"""
PEFT = """
import json, sys
import numpy, torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors.torch import load_file

path, shapes, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
model = torch.nn.Module()
for name, (rows, columns) in shapes.items():  # modules by the checkpoint's names
    *parents, last = name.split(".")
    at = model
    for parent in parents:
        if not hasattr(at, parent):
            at.add_module(parent, torch.nn.Module())
        at = getattr(at, parent)
    at.add_module(last, torch.nn.Linear(columns, rows, bias=False))
tensors = {n.removeprefix("diffusion_model."): x for n, x in load_file(path).items()}
rank = next(x.shape[0] for n, x in tensors.items() if "lora_A" in n)
config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(shapes))
inject_adapter_in_model(config, model)
result = set_peft_model_state_dict(model, tensors)
assert not result.unexpected_keys, result.unexpected_keys
assert not [n for n in result.missing_keys if "lora" in n], result.missing_keys
deltas = {n: model.get_submodule(n).get_delta_weight("default") for n in shapes}
numpy.savez(out, **{n: x.detach().numpy() for n, x in deltas.items()})
"""
# Names of diffusers for ours (spec/lora_files.md 4.3), whole parts of a path.
NAMES = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}

SAME = (
    "in_channels",
    "out_channels",
    "num_attention_heads",
    "attention_head_dim",
    "cross_attention_dim",
    "audio_in_channels",
    "audio_out_channels",
    "audio_num_attention_heads",
    "audio_attention_head_dim",
    "audio_cross_attention_dim",
    "num_layers",
    "caption_channels",
)


class Written(NamedTuple):
    """A file on every linear layer of a tiny model, and by path what it adds to the weights."""

    path: Path
    version: str
    deltas: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["ltx2", "ltx23"])
def written(request, tmp_path_factory) -> Written:
    folder = tmp_path_factory.mktemp("adapter")
    model = small_transformer(request.param)
    add_trainable(model, rank=RANK, alpha=ALPHA, target_modules=list(linears(model)))
    values, deltas = {}, {}
    for number, (name, layer) in enumerate(lora_layers(model).items()):
        A = mx.random.normal(layer.lora_A.shape, key=mx.random.key(2 * number))
        B = mx.random.normal(layer.lora_B.shape[::-1], key=mx.random.key(2 * number + 1)).T
        values |= {f"{name}.lora_A": A, f"{name}.lora_B": B}
        deltas[name] = ALPHA / RANK * np.array(B, np.float64) @ np.array(A, np.float64)
    (folder / "lora.yaml").write_text(VALID)
    config = read_config(
        folder / "lora.yaml", [f"output_dir={folder}", "checkpoints.precision=float32"]
    )
    path = write_adapter(model, config, FACTS, step=1, values=values)
    return Written(path, request.param, deltas)


def loaded(script: str, written: Written, sizes: object) -> dict[str, np.ndarray]:
    out = written.path.with_suffix(".npz")
    words = (written.path, json.dumps(sizes), out)
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(out) as found:
        return dict(found)


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert found[name].shape == delta.shape, name
        assert np.abs(found[name] - delta).max() <= RTOL * np.abs(delta).max(), name


def test_peft_adds_what_we_add(written):
    shapes = {name: delta.shape for name, delta in written.deltas.items()}
    assert_same(loaded(PEFT, written, shapes), written.deltas)


def test_diffusers_adds_what_we_add(written):
    """On a transformer of diffusers' own, with our sizes."""
    later = written.version == "ltx23"
    sizes = {
        **{name: SMALL[name] for name in SAME},
        **dict.fromkeys(("gated_attn", "audio_gated_attn"), later),
        **dict.fromkeys(("cross_attn_mod", "audio_cross_attn_mod"), later),
        "use_prompt_embeddings": not later,
    }
    wanted = {
        ".".join(NAMES.get(part, part) for part in name.split(".")): delta
        for name, delta in written.deltas.items()
    }
    found = loaded(DIFFUSERS, written, sizes)
    # The base's weights were added and taken away again, in float32.
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert np.abs(found[name] - delta).max() <= 1e-5, name
