"""Random LoRAs of the small LTX-2.3, and what a model answers with them."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ltx_models.lora.files import LoRAFile, read_lora
from ltx_models.lora.linear import linears, weight_shape
from ltx_models.transformer.model import Transformer
from tests.models.transformer.sizes import small_modality, small_transformer

TARGETS = ("to_q", "to_out.0", "ff.net.2", "adaln_single.linear", "linear_1")
PICTURE, SOUND = "transformer_blocks.0.attn1.to_q", "transformer_blocks.1.audio_attn1.to_q"
ACROSS = "transformer_blocks.0.video_to_audio_attn.to_q"
SOME = (PICTURE, SOUND, ACROSS)
RTOL = 1e-5


def lora_file(
    folder: Path, seed: int, *, paths=None, rank: int = 3, alpha: float | None = None, dims=None
) -> LoRAFile:
    """A random LoRA of the small LTX-2.3, on the layers of TARGETS or of ``paths``."""
    draw = np.random.default_rng(seed)
    tensors = {}
    for path, layer in linears(small_transformer("ltx23")).items():
        if not (path.endswith(TARGETS) if paths is None else path in paths):
            continue
        rows, columns = dims or weight_shape(layer)
        at = f"diffusion_model.{path}"
        tensors[f"{at}.lora_A.weight"] = draw.normal(size=(rank, columns)) / columns**0.5
        tensors[f"{at}.lora_B.weight"] = draw.normal(size=(rows, rank))
        if alpha is not None:
            tensors[f"{at}.alpha"] = np.array(alpha)
    return save(folder / f"{seed}.safetensors", tensors)


def save(path: Path, tensors) -> LoRAFile:
    mx.save_safetensors(str(path), {k: mx.array(v, mx.float32) for k, v in tensors.items()})
    return read_lora(path)


def velocities(model: Transformer) -> list[mx.array]:
    video = small_modality(model, "video") if "patchify_proj" in model else None
    audio = small_modality(model, "audio") if "audio_patchify_proj" in model else None
    return [velocity for velocity in model(video, audio) if velocity is not None]


def near(got: Transformer, want: Transformer, *, rtol: float = RTOL) -> bool:
    """Whether two models answer the same, relative to the largest value of the answer."""
    pairs = list(zip(velocities(got), velocities(want), strict=True))
    return all((mx.abs(a - b).max() <= rtol * mx.abs(b).max()).item() for a, b in pairs)


def weights(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))
