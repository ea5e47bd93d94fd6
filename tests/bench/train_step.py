"""A training step against the forward pass of the same batch, and its memory with recompute."""

from collections.abc import Callable
from functools import cache

import mlx.core as mx
import numpy as np

from ltx_models.lora.adapters import add_trainable
from ltx_models.released import LTX_2_3
from ltx_models.tiny.weights import fill
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.patchify import AudioScale, VideoScale, audio_positions, video_positions
from ltx_train.loss import StreamBatch, input_maker, mean_loss, sample_losses
from ltx_train.step import MicroBatch, make_step, new_state
from tests.bench.timing import interleaved_medians

SIZES = {
    "num_layers": 8,
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "cross_attention_dim": 512,
    "audio_num_attention_heads": 8,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 256,
    "connector_num_attention_heads": 8,
    "connector_attention_head_dim": 64,
    "audio_connector_num_attention_heads": 8,
    "audio_connector_attention_head_dim": 32,
}
VIDEO_SIZE, NUM_AUDIO, NUM_CONTEXT, RANK = (4, 8, 8), 32, 64, 16
TARGETS = ("to_k", "to_q", "to_v", "to_out.0")


@cache
def measure() -> dict[str, float]:
    """Seconds of forward pass and steps, their ratios, and that of the steps' working memory."""
    model = _model()
    batch = MicroBatch(input_maker(model)(_batch(model)))
    mx.eval(batch)
    step, state = make_step(model, max_grad_norm=1.0), new_state(model)
    mx.eval(state)

    def forward() -> None:
        mx.eval(mean_loss(sample_losses(model, batch.inputs), batch.inputs))

    def plain() -> None:
        model.recompute(False)
        step(state, [batch], 1e-4)

    def recomputed() -> None:
        model.recompute()
        step(state, [batch], 1e-4)

    seconds = interleaved_medians([forward, plain, recomputed])
    kept, less = _working_bytes(plain), _working_bytes(recomputed)
    return {
        "forward_s": seconds[0],
        "plain": seconds[1] / seconds[0],
        "recomputed": seconds[2] / seconds[0],
        "kept_mb": kept / 1e6,
        "memory": less / kept,
    }


def _working_bytes(function: Callable[[], None]) -> int:
    """The most that is held at once, beside what is held before."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    function()
    return mx.get_peak_memory() - before


def _model() -> Transformer:
    config = TransformerConfig.read({**LTX_2_3["transformer"], **SIZES})
    model = Transformer(config)
    fill(model, at="bench.")
    mx.eval(model.parameters())
    add_trainable(model, rank=RANK, alpha=RANK, target_modules=TARGETS)
    return model


def _batch(model: Transformer) -> dict[StreamName, StreamBatch]:
    config = model.config
    at = {
        "video": video_positions(VIDEO_SIZE, fps=24, scale=VideoScale(8, 32)),
        "audio": audio_positions(NUM_AUDIO, scale=AudioScale(16000, 160, 4)),
    }
    channels = {"video": config.in_channels, "audio": config.audio_in_channels}
    widths = {"video": config.cross_attention_dim, "audio": config.audio_cross_attention_dim}
    batch: dict[StreamName, StreamBatch] = {}
    for name in ("video", "audio"):
        shape = (1, at[name].shape[2], channels[name])
        batch[name] = StreamBatch(
            x_0=mx.random.normal(shape),
            noise=mx.random.normal(shape),
            sigma=np.array([0.6], np.float32),
            denoise_mask=np.ones(shape[:2], np.float32),
            positions=at[name],
            context=mx.random.normal((1, NUM_CONTEXT, widths[name])),
        )
    return batch
