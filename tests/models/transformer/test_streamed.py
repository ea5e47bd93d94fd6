import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.lora.adapters import Strength, attach, set_strengths
from ltx_models.lora.files import read_lora
from ltx_models.quantize import quantization, quantize
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.tiny.weights import fill
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Perturbation, Transformer
from ltx_models.transformer.streamed import stream_blocks
from ltx_models.transformer.sweep import bounded, in_pieces, operations, recomputed, straight
from ltx_models.weights import TensorFile
from tests.models.transformer.sizes import CONFIGS, CONNECTORS, SMALL, small_modality

VERSIONS = ("ltx2", "ltx23")
RELEASED = {"ltx2": LTX_2, "ltx23": LTX_2_3}
GUIDED = [[], [Perturbation("video_self_attention", (1,)), Perturbation("audio_to_video")]]


def saved(path: Path, version: str, **sizes) -> Checkpoint:
    """A checkpoint of a transformer alone, in bfloat16 as released."""
    config = {**RELEASED[version]["transformer"], **SMALL, **CONNECTORS[version], **sizes}
    model = Transformer(TransformerConfig.read(config))
    fill(model, at=f"{version}.")
    tensors = {
        TRANSFORMER + key: value.astype(mx.bfloat16)
        for key, value in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(path), tensors, {"config": json.dumps({"transformer": config})})
    return Checkpoint(TensorFile(path), (2, 3), {"transformer": config})


def answers(model: Transformer, *, perturbations=(), batch: int = 1) -> list[mx.array]:
    inputs = (small_modality(model, name, batch=batch) for name in BOTH)
    found = model(*inputs, perturbations=perturbations)
    mx.eval(found)
    return found


def alike(got: list[mx.array], wanted: list[mx.array]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert mx.abs(one - other).max() <= 1e-5 * mx.abs(other).max()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_streamed_model_answers_as_one_in_memory(tmp_path, version):
    checkpoint = saved(tmp_path / "a.safetensors", version, num_layers=5)
    resident, streamed = (load_transformer(checkpoint, dtype=mx.float32) for _ in range(2))
    stream_blocks(streamed, checkpoint)
    for _ in range(2):  # the second sweep begins with the block that was read after the last one
        alike(answers(streamed), answers(resident))
    kwargs = {"perturbations": GUIDED, "batch": 2}
    alike(answers(streamed, **kwargs), answers(resident, **kwargs))


@pytest.mark.parametrize("stored", ["float", "quantised"])
def test_quantised_layers_are_streamed(tmp_path, stored):
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", num_layers=3)
    resident = load_transformer(checkpoint, dtype=mx.float32)
    count = quantize(resident, quantization(4))
    assert count > 0
    streamed = load_transformer(checkpoint, dtype=mx.float32)
    quantize(streamed, quantization(4), evaluate=False)
    if stored == "quantised":  # the file that the streamed layers come from
        tensors = {TRANSFORMER + k: v for k, v in tree_flatten(resident.parameters())}
        mx.save_safetensors(str(tmp_path / "b.safetensors"), tensors)
        file = TensorFile(tmp_path / "b.safetensors")
        file.packed = [key for key, info in file.infos.items() if info.dtype == "U32"]
        checkpoint = Checkpoint(file, (2, 3), checkpoint.config)
    stream_blocks(streamed, checkpoint)
    for _ in range(2):
        alike(answers(streamed), answers(resident))


def adapter(path: Path, *, magnitude: bool, num_layers: int = 4, dim: int = 32) -> Path:
    """Of every block's attention to itself, of its feed-forward, and of a norm and a head."""
    tensors, sizes = {}, {"attn1.to_q": dim, "attn1.to_out.0": dim, "ff.net.2": 4 * dim}
    layers = [
        (f"transformer_blocks.{i}.{name}", dim, in_dims)
        for i in range(num_layers)
        for name, in_dims in sizes.items()
    ]
    for name, out_dims, in_dims in [*layers, ("proj_out", 6, dim)]:
        at = f"diffusion_model.{name}"
        tensors[f"{at}.lora_A.weight"] = mx.random.normal((2, in_dims))
        tensors[f"{at}.lora_B.weight"] = mx.random.normal((out_dims, 2))
        if magnitude:
            tensors[f"{at}.dora_scale"] = mx.random.uniform(0.5, 2, (out_dims, 1))
    tensors["diffusion_model.transformer_blocks.2.attn1.q_norm.diff"] = mx.random.normal((dim,))
    mx.save_safetensors(str(path), tensors)
    return path


@pytest.mark.parametrize("magnitude", [False, True], ids=["LoRA", "DoRA"])
def test_adapters_are_on_every_block(tmp_path, magnitude):
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", num_layers=4)
    resident, streamed = (load_transformer(checkpoint, dtype=mx.float32) for _ in range(2))
    stream_blocks(streamed, checkpoint)
    plain = answers(resident)
    file = read_lora(adapter(tmp_path / "lora.safetensors", magnitude=magnitude))
    for model in (resident, streamed):
        attach(model, [(file, Strength(0.7))])
    wanted = answers(resident)
    assert mx.abs(wanted[0] - plain[0]).max() > 0.01
    for _ in range(2):
        alike(answers(streamed), wanted)
    for model in (resident, streamed):
        set_strengths(model, [Strength(0.0)])
    alike(answers(streamed), answers(resident))


def test_memory_is_that_of_three_blocks(tmp_path):
    """In bfloat16 on disk and float32 in memory; weights are much larger than activations."""
    sizes = {"num_layers": 16, "attention_head_dim": 64, "cross_attention_dim": 128}
    sizes["connector_attention_head_dim"] = 64
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", **sizes)
    shapes = dict(tree_flatten(load_transformer(checkpoint, dtype=mx.float32).parameters()))
    of_blocks = sum(v.nbytes for key, v in shapes.items() if key.startswith("transformer_blocks."))
    block, rest = of_blocks // 16, sum(v.nbytes for v in shapes.values()) - of_blocks
    path = adapter(tmp_path / "lora.safetensors", magnitude=True, num_layers=16, dim=128)
    rest += path.stat().st_size
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = load_transformer(checkpoint, dtype=mx.float32)
    stream_blocks(model, checkpoint)
    attach(model, [(read_lora(path), Strength(1.0))])
    for _ in range(2):
        answers(model)
    assert mx.get_peak_memory() - before < rest + 3 * block
    assert mx.get_active_memory() - before < rest + 1.5 * block


@pytest.mark.parametrize("sweep", [recomputed, in_pieces(1.0), in_pieces(1e12)])
def test_every_way_through_the_blocks_gives_the_same(tmp_path, sweep):
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", num_layers=3)
    model = load_transformer(checkpoint, dtype=mx.float32)
    assert model.sweep is straight
    wanted = answers(model)
    model.sweep = sweep
    alike(answers(model), wanted)


def test_on_metal_work_is_cut_in_pieces(tmp_path, monkeypatch):
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", num_layers=3)
    model = load_transformer(checkpoint, dtype=mx.float32)
    wanted = answers(model)
    for metal in (True, False):
        monkeypatch.setattr(mx.metal, "is_available", lambda metal=metal: metal)
        with bounded(model):
            assert (model.sweep is straight) == (not metal)
            alike(answers(model), wanted)
        assert model.sweep is straight
    stream_blocks(model, checkpoint)
    streamed = model.sweep
    with bounded(model):
        assert model.sweep == streamed


def test_pieces_are_as_long_as_their_operations_allow():
    model = Transformer(CONFIGS["ltx23"])
    fill(model, at="")
    seen: list[tuple] = []

    def counted(blocks, streams, switches):
        seen.append((operations(streams), len(blocks)))
        return straight(blocks, streams, switches)

    model.sweep = counted
    answers(model)
    ((found, blocks),) = seen
    video, audio = 12 * (32 * 32**2 + 4 * 12 * 32), 5 * (32 * 16**2 + 4 * 5 * 16)
    assert found == pytest.approx(video + audio)
    assert blocks == 2
    assert np.isfinite(found)
