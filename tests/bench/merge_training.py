"""Training for the merge against plain training: ``python -m tests.bench.merge_training``.

A small transformer learns four latents by heart, in float32 and with all of its weights; then it is
quantised. The real step trains adapters on it, for the same latents in another style: each channel
shifted. They are fused into the quantised layers, and the loss is measured of those latents at
fixed levels and noise. The tables are in docs/numerics.md as they are printed.
"""

import tempfile
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from ltx_models.device import prepare
from ltx_models.files import write_tensors
from ltx_models.lora.adapters import Strength, add_trainable, fuse, lora_tensors
from ltx_models.lora.aware import requantised
from ltx_models.lora.files import read_lora
from ltx_models.lora.retained import in_all
from ltx_models.lora.updates import dequantised, float_weight
from ltx_models.quantize import AFFINE, FLOAT_MODES, Quantization, quantization, quantize
from ltx_models.released import LTX_2_3
from ltx_models.tiny.weights import draw, fill
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.patchify import VideoScale, video_positions
from ltx_train.loss import StreamBatch, input_maker, mean_loss, sample_losses
from ltx_train.optimizer import Tensors
from ltx_train.step import MicroBatch, make_step, new_state
from tests.bench.numerics import weight

SIZES = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "cross_attention_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 64,
    "connector_num_attention_heads": 2,
    "connector_attention_head_dim": 32,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 32,
}
CONFIG = TransformerConfig.read({**LTX_2_3["transformer"], **SIZES})
TARGETS = ("to_k", "to_q", "to_v", "to_out.0", "net.0.proj", "net.2")
SHAPE, SAMPLES, CONTEXT = (2, 4, 4), 4, 3  # latent frames, rows and columns; tokens of a prompt
BASE_STEPS, BASE_RATE = 300, 3e-3  # in which the base learns its latents
RANK, STEPS, RATE, MEASURED = 8, 100, 1e-3, 16
STYLE = 0.5  # what the channels are shifted by, over the size of the latents
POSITIONS = video_positions(SHAPE, fps=24, scale=VideoScale(8, 32))
SEEDS = (0, 1, 2)
MODES = (quantization(4), quantization(3), quantization(mode="mxfp4"), quantization(mode="nvfp4"))


class Losses(NamedTuple):
    """Of one run: before training, of the model as it was trained, and after fusing."""

    start: float
    trained: float
    fused: float
    kept: float  # of the update when it is fused (docs/numerics.md)


def train(how: Quantization, *, aware: bool, seed: int) -> Losses:
    """Train an adapter, fuse it into the quantised layers, and measure the loss at each point."""
    model = _quantised(how)
    test = [_batch(model, seed=number, style=STYLE) for number in range(MEASURED)]
    start = _loss(model, test)
    mx.random.seed(seed)
    add_trainable(model, rank=RANK, alpha=RANK, target_modules=TARGETS, quantization_aware=aware)
    step, state = make_step(model, max_grad_norm=1.0), new_state(model)
    for number in range(STEPS):
        batch = _batch(model, seed=1000 * (seed + 1) + number, style=STYLE)
        state, _ = step(state, [batch], RATE * (1 - number / STEPS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        write_tensors(path, lora_tensors(model), {})
        shipped = _quantised(how)
        found = fuse(shipped, [(read_lora(path), Strength())], anyway=True)
    kept = in_all(found.retained.values()).kept
    return Losses(start, _loss(model, test), _loss(shipped, test), kept)


@cache
def _learnt() -> Tensors:
    """The weights of the base, which knows the latents as they are."""
    model = Transformer(CONFIG, streams=("video",))
    fill(model, at="merge.")
    model.unfreeze()
    step, state = make_step(model, max_grad_norm=1.0), new_state(model)
    for number in range(BASE_STEPS):
        batch = _batch(model, seed=100_000 + number, style=0.0)
        state, _ = step(state, [batch], BASE_RATE * (1 - number / BASE_STEPS))
    return state.parameters


def _quantised(how: Quantization) -> Transformer:
    model = Transformer(CONFIG, streams=("video",))
    model.update(tree_unflatten(list(_learnt().items())))
    quantize(model, how)
    return model


def _batch(model: Transformer, *, seed: int, style: float) -> MicroBatch:
    """The four latents in a style, with noise and levels of this seed."""
    rng = np.random.default_rng(seed)
    channels, width = CONFIG.in_channels, CONFIG.cross_attention_dim
    shape = (SAMPLES, int(np.prod(SHAPE)), channels)
    x_0 = draw("merge.latents", shape) + style * draw("merge.style", (channels,))
    stream = StreamBatch(
        x_0=mx.array(x_0),
        noise=mx.array(rng.standard_normal(shape), mx.float32),
        sigma=rng.uniform(0.1, 1, SAMPLES).astype(np.float32),
        denoise_mask=np.ones(shape[:2], np.float32),
        positions=POSITIONS.repeat(SAMPLES, axis=0),
        context=mx.array(draw("merge.context", (SAMPLES, CONTEXT, width))),
    )
    return MicroBatch(input_maker(model)({"video": stream}))


def _loss(model: Transformer, batches: list[MicroBatch]) -> float:
    found = [mean_loss(sample_losses(model, b.inputs), b.inputs).item() for b in batches]
    return mean(found)


def stored_again(how: Quantization) -> float:
    """How far weights with outliers move, over their size, when they are stored a second time."""
    W = mx.array(weight(0))
    layer = nn.QuantizedLinear(W.shape[1], W.shape[0], False, how.group_size, how.bits, how.mode)
    layer.weight, layer.scales, layer.biases = requantised(layer, W)
    once = float_weight(layer)
    again = dequantised(layer, *requantised(layer, once))
    return (mx.linalg.norm(again - once) / mx.linalg.norm(once)).item()


def _cell(values: list[float]) -> str:
    return f"{mean(values):.3f} +- {stdev(values):.3f}"


def main() -> None:
    """Print both tables as Markdown: means and spreads over the seeds; what storing again moves."""
    prepare()
    print("| mode, bits, group | moved |\n| --- | --- |")
    for how in (quantization(bits) for bits in AFFINE):
        print(f"| {how.mode} {how.bits}, {how.group_size} | {100 * stored_again(how):.2f} % |")
    for how in (quantization(mode=mode) for mode in FLOAT_MODES):
        print(f"| {how.mode} {how.bits}, {how.group_size} | {100 * stored_again(how):.2f} % |")
    print()
    head = ["mode, bits, group", "adapter", "in training", "fused", "kept", "before training"]
    for cells in (head, ["---"] * len(head)):
        print(f"| {' | '.join(cells)} |")
    for how in MODES:
        for aware in (False, True):
            runs = [train(how, aware=aware, seed=seed) for seed in SEEDS]
            cells = [f"{how.mode} {how.bits}, {how.group_size}", "aware" if aware else "plain"]
            cells += [_cell([run.trained for run in runs]), _cell([run.fused for run in runs])]
            cells += [f"{mean([run.kept for run in runs]):.2f}", f"{runs[0].start:.3f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
