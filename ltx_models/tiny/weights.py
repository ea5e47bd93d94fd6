"""Random weights of the stand-in: reproducible, and scaled so that signals keep their size."""

import zlib
from math import prod

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from ltx_models.video_vae import VideoDecoder
from ltx_models.video_vae.layers import Upsample
from ltx_models.weights import shapes

SEED = 2
SPATIAL = (nn.Conv3d, nn.Conv2d)
GRAIN = 0.1  # how much neighbouring pixels differ in what they are mixed of

# Factors that bring pictures and sound to a usual contrast and loudness.
LOUDNESS = {
    "vae.decoder.conv_out.conv.weight": 0.6,
    "vocoder.vocoder.conv_post.weight": 0.08,
    "vocoder.bwe_generator.conv_post.weight": 0.02,
}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal float32 values that depend on nothing but a name and a shape."""
    bits = np.random.Philox(key=[SEED, zlib.crc32(name.encode())])
    return np.random.Generator(bits).standard_normal(shape, np.float32)


def fill(module: nn.Module, *, at: str) -> None:
    """Give a network random weights; ``at`` sets it apart from others with the same keys."""
    smooth = {name for name, layer in module.named_modules() if isinstance(layer, SPATIAL)}
    groups = _pixel_groups(module)
    drawn = []
    for key, shape in shapes(module).items():
        layer, _, last = key.rpartition(".")
        if last == "kernel":  # an upscaler's blur: no weight, and made with the module
            continue
        if last == "weight" and layer in smooth and prod(shape[1:-1]) > 1:
            value = _smooth(f"{at}{key}", shape, group=groups.get(layer, 1))
        else:
            value = _value(f"{at}{key}", shape)
        drawn.append((key, mx.array(LOUDNESS.get(f"{at}{key}", 1.0) * value)))
    module.update(tree_unflatten(drawn))


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    last = name.rpartition(".")[2]
    noise = draw(name, shape)
    if last == "std-of-means" or ("norm" in name and last == "weight"):
        return 1 + 0.05 * noise
    if last in ("bias", "alpha", "beta", "mean-of-means"):
        return 0.05 * noise
    if "conv_post" in name:
        noise -= noise.mean(axis=1, keepdims=True)  # over time: no constant part in the sound
    if "table" in last:
        return 0.2 * noise
    if last == "learnable_registers":
        return noise
    return noise / np.sqrt(prod(shape[1:]))


def _smooth(name: str, shape: tuple[int, ...], *, group: int) -> np.ndarray:
    """A kernel (out, ..., in) that mixes channels and blurs: pictures get areas instead of grain.

    Each ``group`` of outputs, which are neighbouring pixels, has nearly the same mix.
    """
    blur = np.ones(())
    for size in shape[1:-1]:
        profile = np.bartlett(size + 2)[1:-1]
        blur = blur[..., None] * (profile / np.sqrt((profile**2).sum()))
    ones = [1] * blur.ndim
    mix = draw(name, (shape[0] // group, *ones, shape[-1])).repeat(group, axis=0)
    mix += GRAIN * draw(f"{name} of a pixel", (shape[0], *ones, shape[-1])) * (group > 1)
    if "conv_out" in name:
        mix -= mix.mean(axis=-1, keepdims=True)  # the inputs are positive: no colour cast
    return (mix * blur[None, ..., None] / np.sqrt(shape[-1])).astype(np.float32)


def _pixel_groups(module: nn.Module) -> dict[str, int]:
    """Convolutions of the video decoder whose outputs become neighbouring pixels: how many."""
    groups = {
        f"{name}.conv.conv": prod(layer.stride)
        for name, layer in module.named_modules()
        if isinstance(layer, Upsample)
    }
    if isinstance(module, VideoDecoder):
        groups["conv_out.conv"] = module.config.patch_size**2
    return groups
