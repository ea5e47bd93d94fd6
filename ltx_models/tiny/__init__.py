"""The embedded stand-in: a complete LTX-2.3 in the real file layout, small and random.

``tiny_folder`` makes it at first use, in seconds, and keeps it in the cache. Its numbers are
random: what it generates is colours and noise, by the same code on the same path as a real clip.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.audio_vae.bandwidth import ExtendedVocoder
from ltx_models.audio_vae.config import ExtendedVocoderConfig
from ltx_models.checkpoint import CONNECTORS, TRANSFORMER
from ltx_models.text_encoder.connector import Connector
from ltx_models.text_encoder.features import PROJECTION, FeatureExtractorV2
from ltx_models.tiny.gemma import write_gemma
from ltx_models.tiny.sizes import CHECKPOINT, GEMMA, TEXT_CHANNELS, UPSCALERS
from ltx_models.tiny.vocoder import stored_filters
from ltx_models.tiny.weights import draw, fill
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.video_vae import VideoDecoder, VideoEncoder, VideoVAEConfig
from ltx_models.weights import torch_layout

CACHE_VARIABLE, CACHE = "LTX_MLX_CACHE", "~/.cache/ltx-mlx"
LORA_RANK = 4
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def tiny_folder() -> Path:
    """The folder of the stand-in, made if it is not there; named by the hash of its recipe."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or CACHE).expanduser()
    folder = cache / f"tiny-{_recipe_hash()}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".tiny-", dir=cache))
        try:
            write_tiny(unfinished)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def write_tiny(folder: Path) -> None:
    """Write the checkpoint, the upscalers, the distilled LoRA and Gemma into a folder."""
    tensors = _checkpoint_tensors()
    metadata = {"config": json.dumps(CHECKPOINT), "model_version": "2.3.0"}
    _save(folder / "ltx-2.3-tiny.safetensors", tensors, metadata)
    for name, config in UPSCALERS.items():
        upscaler = LatentUpsampler(UpsamplerConfig.read(config))
        fill(upscaler, at=f"{name}.")
        metadata = {"config": json.dumps(config)}
        _save(folder / f"{name}.safetensors", torch_layout(upscaler), metadata)
    _save(folder / "ltx-2.3-tiny-distilled-lora-4.safetensors", _lora(tensors), {})
    write_gemma(folder / "gemma-3-tiny")


def _recipe_hash() -> str:
    """Of everything that decides the stand-in's numbers: this package and its configuration."""
    recipe = hashlib.sha256(json.dumps([CHECKPOINT, UPSCALERS, GEMMA]).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        recipe.update(path.read_bytes())
    return recipe.hexdigest()[:12]


def _publish(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first."""
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _checkpoint_tensors() -> dict[str, mx.array]:
    tensors: dict[str, mx.array] = {}
    for prefix, network in _networks().items():
        fill(network, at=prefix)
        tensors |= {f"{prefix}{key}": value for key, value in torch_layout(network).items()}
    tensors |= stored_filters(tensors)
    return {_shared(key): value for key, value in tensors.items()}


def _networks() -> Mapping[str, nn.Module]:
    transformer = TransformerConfig.read(CHECKPOINT["transformer"])
    vae = VideoVAEConfig.read(CHECKPOINT["vae"])
    audio_vae = AudioVAEConfig.read(CHECKPOINT["audio_vae"])
    video_connector, audio_connector = transformer.connector, transformer.audio_connector
    num_features = TEXT_CHANNELS * (GEMMA["text_config"]["num_hidden_layers"] + 1)
    return {
        TRANSFORMER: Transformer(transformer),
        CONNECTORS[0]: Connector(transformer, video_connector),
        CONNECTORS[1]: Connector(transformer, audio_connector),
        PROJECTION: FeatureExtractorV2(
            num_features, dim=video_connector.dim, audio_dim=audio_connector.dim
        ),
        "vae.encoder.": VideoEncoder(vae),
        "vae.decoder.": VideoDecoder(vae),
        "audio_vae.encoder.": AudioEncoder(audio_vae),
        "audio_vae.decoder.": AudioDecoder(audio_vae),
        "vocoder.": ExtendedVocoder(ExtendedVocoderConfig.read(CHECKPOINT["vocoder"])),
    }


def _shared(key: str) -> str:
    """Encoder and decoder share their statistics, which lie beside them in the file."""
    for coder in (".encoder.", ".decoder."):
        key = key.replace(f"{coder}per_channel_statistics.", ".per_channel_statistics.")
    return key


def _lora(tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """A small random change of every attention, with the keys of the released distilled LoRA."""
    adapter = {}
    for key, weight in tensors.items():
        module = key.removeprefix("model.").removesuffix(".weight")
        if not key.startswith(f"{TRANSFORMER}transformer_blocks.") or not key.endswith(".weight"):
            continue
        if module.endswith(LORA_TARGETS):
            rows, columns = weight.shape
            adapter[f"{module}.lora_A.weight"] = mx.array(
                draw(f"{module}.lora_A", (LORA_RANK, columns)) / columns**0.5
            )
            adapter[f"{module}.lora_B.weight"] = mx.array(
                0.1 * draw(f"{module}.lora_B", (rows, LORA_RANK))
            )
    return adapter


def _save(path: Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str]) -> None:
    stored = {key: value.astype(mx.bfloat16) for key, value in sorted(tensors.items())}
    mx.save_safetensors(str(path), stored, dict(metadata))
