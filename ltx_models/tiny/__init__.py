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
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.audio_vae.bandwidth import ExtendedVocoder
from ltx_models.audio_vae.config import ExtendedVocoderConfig
from ltx_models.converted.layout import CONNECTORS, PROJECTION, TRANSFORMER
from ltx_models.errors import UserError, reason
from ltx_models.text_encoder.connector import Connector
from ltx_models.text_encoder.features import FeatureExtractorV2
from ltx_models.tiny.gemma import GEMMA_FILES, write_gemma
from ltx_models.tiny.sizes import CHECKPOINT, GEMMA, NUM_FEATURES, UPSCALERS
from ltx_models.tiny.vocoder import stored_filters
from ltx_models.tiny.weights import draw, fill
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.video_vae import VideoDecoder, VideoEncoder, VideoVAEConfig
from ltx_models.weights import WeightsError, save_tensors, shapes, torch_layout

CACHE_VARIABLE, CACHE = "LTX_MLX_CACHE", "~/.cache/ltx-mlx"
CHECKPOINT_FILE, LORA_FILE = (
    "ltx-2.3-tiny.safetensors",
    "ltx-2.3-tiny-distilled-lora-4.safetensors",
)
GEMMA_FOLDER = "gemma-3-tiny"
LORA_RANK = 4
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def tiny_folder() -> Path:
    """The folder of the stand-in, made if it is not there whole; named by its recipe's hash.

    Raises UserError where the cache cannot be written.
    """
    place = Path(os.environ.get(CACHE_VARIABLE) or CACHE).expanduser()
    folder = place / f"tiny-{_recipe_hash()}"
    try:
        if not _is_whole(folder):
            _make(folder)
    except (OSError, WeightsError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise UserError(
            f"the stand-in cannot be written to {place}: {why}\n"
            f"Make room there, or name another folder in the variable {CACHE_VARIABLE}."
        ) from None
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether every file is there; the folder got its name when all were complete."""
    names = [CHECKPOINT_FILE, LORA_FILE, *(f"{name}.safetensors" for name in UPSCALERS)]
    names += [f"{GEMMA_FOLDER}/{name}" for name in GEMMA_FILES]
    return all((folder / name).is_file() for name in names)


def _make(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".tiny-", dir=folder.parent))
    try:
        write_tiny(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's is for its owner alone
        _publish(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_tiny(folder: Path) -> None:
    """Write the checkpoint, the upscalers, the distilled LoRA and Gemma into a folder."""
    tensors = _checkpoint_tensors()
    metadata = {"config": json.dumps(CHECKPOINT), "model_version": "2.3.0"}
    _save(folder / CHECKPOINT_FILE, tensors, metadata)
    for name, upscaler in _upscalers().items():
        fill(upscaler, at=f"{name}.")
        metadata = {"config": json.dumps(UPSCALERS[name])}
        _save(folder / f"{name}.safetensors", torch_layout(upscaler), metadata)
    _save(folder / LORA_FILE, _lora(tensors), {})
    write_gemma(folder / GEMMA_FOLDER)


@cache
def _recipe_hash() -> str:
    """Of everything that decides the stand-in: this package, its configuration, all shapes."""
    recipe = hashlib.sha256(json.dumps([CHECKPOINT, UPSCALERS, GEMMA]).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        recipe.update(path.read_bytes())
    built = {**networks(CHECKPOINT, num_features=NUM_FEATURES), **_upscalers()}
    recipe.update(json.dumps({name: shapes(network) for name, network in built.items()}).encode())
    return recipe.hexdigest()[:12]


def _publish(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first.

    What is there and not whole, as when a disk was cleared of large files, goes away first.
    """
    if folder.exists() and not _is_whole(folder):
        torn = unfinished.with_name(f"{unfinished.name}-torn")
        folder.rename(torn)
        shutil.rmtree(torn)
    try:
        unfinished.rename(folder)
    except OSError:
        if not _is_whole(folder):
            raise


def _checkpoint_tensors() -> dict[str, mx.array]:
    tensors: dict[str, mx.array] = {}
    for prefix, network in networks(CHECKPOINT, num_features=NUM_FEATURES).items():
        fill(network, at=prefix)
        tensors |= {f"{prefix}{key}": value for key, value in torch_layout(network).items()}
    tensors |= stored_filters(tensors)
    return {shared_key(key): value for key, value in tensors.items()}


def networks(config: Mapping[str, Mapping[str, Any]], *, num_features: int) -> dict[str, nn.Module]:
    """Every network of an LTX-2.3 configuration by its prefix in a checkpoint; nothing computed.

    ``num_features`` is what its Gemma gives for each token.
    """
    transformer = TransformerConfig.read(config["transformer"])
    vae = VideoVAEConfig.read(config["vae"])
    audio_vae = AudioVAEConfig.read(config["audio_vae"])
    video_connector, audio_connector = transformer.connector, transformer.audio_connector
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
        "vocoder.": ExtendedVocoder(ExtendedVocoderConfig.read(config["vocoder"])),
    }


def _upscalers() -> dict[str, LatentUpsampler]:
    return {
        name: LatentUpsampler(UpsamplerConfig.read(config)) for name, config in UPSCALERS.items()
    }


def shared_key(key: str) -> str:
    """A key of ``networks`` in the file, where encoder and decoder share their statistics."""
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
    save_tensors(path, stored, metadata)
