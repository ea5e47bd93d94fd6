"""A small transformer of each generation for unit tests."""

import mlx.core as mx
import numpy as np

from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.tiny.weights import fill
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Modality, Transformer
from ltx_models.transformer.patchify import AudioScale, VideoScale, audio_positions, video_positions
from ltx_models.transformer.timestep import distinct

SMALL = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "in_channels": 6,
    "out_channels": 6,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "audio_in_channels": 10,
    "audio_out_channels": 10,
    "caption_channels": 12,
    "connector_num_attention_heads": 2,
}
CONNECTORS = {
    "ltx2": {"connector_attention_head_dim": 6},
    "ltx23": {
        "connector_attention_head_dim": 16,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 8,
    },
}
CONFIGS = {
    name: TransformerConfig.read({**released["transformer"], **SMALL, **CONNECTORS[name]})
    for name, released in {"ltx2": LTX_2, "ltx23": LTX_2_3}.items()
}
SIZE, NUM_AUDIO = (2, 2, 3), 5
POSITIONS = {
    "video": video_positions(SIZE, fps=24, scale=VideoScale(8, 32)),
    "audio": audio_positions(NUM_AUDIO, scale=AudioScale(16000, 160, 4)),
}


def small_transformer(version: str, *, streams: Streams = BOTH) -> Transformer:
    model = Transformer(CONFIGS[version], streams=streams)
    fill(model, at=f"{version}.")
    return model


def small_modality(
    model: Transformer, stream: str, *, batch: int = 1, timesteps: np.ndarray | None = None
) -> Modality:
    config = model.config
    video = stream == "video"
    channels = config.in_channels if video else config.audio_in_channels
    width = config.cross_attention_dim if video else config.audio_cross_attention_dim
    if config.feature_version == "V1":
        width = config.caption_channels
    num_tokens = POSITIONS[stream].shape[2]
    keys = mx.random.split(mx.random.key(len(stream) + video), 2)
    prepared = model.prepare(
        stream,
        positions=np.repeat(POSITIONS[stream], batch, axis=0),
        context=mx.random.normal((batch, 3, width), key=keys[1]),
    )
    if timesteps is None:
        timesteps = np.full((batch, num_tokens), 0.7)
    return Modality(
        latents=mx.random.normal((batch, num_tokens, channels), key=keys[0]),
        sigma=mx.full((batch,), 0.7),
        timesteps=distinct(timesteps),
        prepared=prepared,
    )
