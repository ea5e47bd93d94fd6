"""One transformer block against the sum of its own bare matrix products and attentions."""

from contextlib import contextmanager
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn

from ltx_models.released import LTX_2_3
from ltx_models.tiny.weights import fill
from ltx_models.transformer.block import Switches
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Modality, Transformer
from ltx_models.transformer.patchify import AudioScale, VideoScale, audio_positions, video_positions
from ltx_models.transformer.timestep import distinct
from tests.bench.timing import interleaved_medians

SIZES = {
    "num_layers": 1,
    "num_attention_heads": 8,
    "attention_head_dim": 128,
    "cross_attention_dim": 1024,
    "audio_num_attention_heads": 8,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 512,
    "connector_num_attention_heads": 8,
    "audio_connector_num_attention_heads": 8,
}
VIDEO_SIZE, NUM_AUDIO, NUM_CONTEXT = (8, 16, 16), 64, 128


def measure() -> dict[str, float]:
    """Seconds of a block's forward, of its bare operations, and their ratio."""
    config = TransformerConfig.read({**LTX_2_3["transformer"], **SIZES})
    model = Transformer(config)
    fill(model, at="bench.")
    streams = _streams(model)
    block = model.transformer_blocks[0]

    def forward() -> list[mx.array]:
        video, audio = block(*streams, Switches())
        return [video.x, audio.x]

    with _recorded() as (products, attentions):
        mx.eval(forward())
    inputs = [(x, weight) for x, weight in products]
    mx.eval(inputs, attentions)

    def bare() -> list[mx.array]:
        return [x @ weight.T for x, weight in inputs] + [
            _attention(q, k, v, scale=q.shape[-1] ** -0.5) for q, k, v in attentions
        ]

    block_s, bare_s = interleaved_medians([lambda: mx.eval(forward()), lambda: mx.eval(bare())])
    return {"block_s": block_s, "bare_products_s": bare_s, "ratio": block_s / bare_s}


_attention = mx.fast.scaled_dot_product_attention


def _streams(model: Transformer) -> tuple:
    positions = {
        "video": video_positions(VIDEO_SIZE, fps=24, scale=VideoScale(8, 32)),
        "audio": audio_positions(NUM_AUDIO, scale=AudioScale(16000, 160, 4)),
    }
    widths = {
        "video": model.config.cross_attention_dim,
        "audio": model.config.audio_cross_attention_dim,
    }
    given = {
        name: Modality(
            latents=mx.random.normal((1, where.shape[2], 128)),
            sigma=mx.array([0.7]),
            timesteps=distinct([[0.7] * where.shape[2]]),
            prepared=model.prepare(
                name,
                positions=where,
                context=mx.random.normal((1, NUM_CONTEXT, widths[name])),
            ),
        )
        for name, where in positions.items()
    }
    entered = []
    block = model.transformer_blocks[0]
    with patch.object(
        type(block), "__call__", lambda _, *streams: entered.append(streams) or streams[:2]
    ):
        model(given["video"], given["audio"])
    video, audio, _ = entered[0]
    mx.eval(video, audio)
    return video, audio


@contextmanager
def _recorded():
    """Keep what every linear layer and every attention is given."""
    products, attentions = [], []
    linear = nn.Linear.__call__

    def record_linear(self: nn.Linear, x: mx.array) -> mx.array:
        products.append((x, self.weight))
        return linear(self, x)

    def record_attention(q, k, v, **kwargs):
        attentions.append((q, k, v))
        return _attention(q, k, v, **kwargs)

    with (
        patch.object(nn.Linear, "__call__", record_linear),
        patch.object(mx.fast, "scaled_dot_product_attention", record_attention),
    ):
        yield products, attentions
