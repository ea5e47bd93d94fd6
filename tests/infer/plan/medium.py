"""Models of both releases, large enough for activations to show and small enough to run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae import HiFiGAN, HiFiGANConfig
from ltx_models.converted.layout import PROJECTION
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.text_encoder.features import FeatureExtractorV1
from ltx_models.tiny import networks, shared_key
from ltx_models.tiny.sizes import CHECKPOINT, NUM_FEATURES
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.weights import save_tensors, torch_layout

HEADS, HEAD_DIM, AUDIO_HEAD_DIM, LAYERS = 8, 96, 48, 4
DIM, AUDIO_DIM = HEADS * HEAD_DIM, HEADS * AUDIO_HEAD_DIM
LATENT_CHANNELS, VAE_CHANNELS = 16, 32
RELEASES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"2.0.0": LTX_2, "2.3.0": LTX_2_3}
RANK = 64


def medium_config(version: str) -> dict[str, dict[str, Any]]:
    """The released configuration with smaller sizes, as many layers a rung as tiny has."""
    released = RELEASES[version]
    transformer = {
        **released["transformer"],
        "num_layers": LAYERS,
        "num_attention_heads": HEADS,
        "attention_head_dim": HEAD_DIM,
        "cross_attention_dim": DIM,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "audio_num_attention_heads": HEADS,
        "audio_attention_head_dim": AUDIO_HEAD_DIM,
        "audio_cross_attention_dim": AUDIO_DIM,
        "audio_in_channels": 32,
        "audio_out_channels": 32,
        "caption_channels": DIM,
        "connector_num_attention_heads": HEADS,
        "connector_attention_head_dim": HEAD_DIM,
        "connector_num_layers": 2,
    }
    if version != "2.0.0":
        transformer |= {
            "audio_connector_num_attention_heads": HEADS,
            "audio_connector_attention_head_dim": AUDIO_HEAD_DIM,
            "audio_connector_num_layers": 2,
        }
    sizes = {"latent_channels": LATENT_CHANNELS, "decoder_base_channels": VAE_CHANNELS}
    blocks = {key: CHECKPOINT["vae"][key] for key in ("encoder_blocks", "decoder_blocks")}
    vocoder = CHECKPOINT["vocoder"]
    if version == "2.0.0":
        vocoder = {**released["vocoder"], "upsample_initial_channel": 256}
    return {
        "transformer": transformer,
        "vae": {**released["vae"], **blocks, **sizes},
        "audio_vae": CHECKPOINT["audio_vae"],
        "vocoder": vocoder,
    }


def medium_networks(version: str) -> dict[str, nn.Module]:
    """Its networks by their prefixes in a checkpoint."""
    config = medium_config(version)
    if version != "2.0.0":
        return networks(config, num_features=NUM_FEATURES)
    found = networks({**config, "vocoder": CHECKPOINT["vocoder"]}, num_features=NUM_FEATURES)
    dim = TransformerConfig.read(config["transformer"]).connector.dim
    found[PROJECTION] = FeatureExtractorV1(NUM_FEATURES, dim=dim)
    found["vocoder."] = HiFiGAN(HiFiGANConfig.read(config["vocoder"]))
    return found


def write_medium(folder: Path, version: str) -> Path:
    """A checkpoint of small random numbers."""
    tensors = {}
    for prefix, network in medium_networks(version).items():
        for key, value in torch_layout(network).items():
            name = shared_key(f"{prefix}{key}")
            tensors[name] = (0.02 * mx.random.normal(value.shape)).astype(mx.bfloat16)
            if key.startswith("per_channel_statistics."):
                tensors[name] = mx.ones(value.shape, mx.bfloat16)
    path = folder / f"ltx-{version}-distilled.safetensors"
    metadata = {"config": json.dumps(medium_config(version)), "model_version": version}
    save_tensors(path, tensors, metadata)
    return path


def write_lora(path: Path, model: Transformer) -> Path:
    """An adapter of all attentions."""
    tensors = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            rows, columns = layer.weight.shape
            key = f"diffusion_model.{name}"
            tensors[f"{key}.lora_A.weight"] = 0.01 * mx.random.normal((RANK, columns))
            tensors[f"{key}.lora_B.weight"] = 0.01 * mx.random.normal((rows, RANK))
    save_tensors(path, tensors)
    return path
