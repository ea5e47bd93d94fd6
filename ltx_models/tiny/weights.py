"""Random weights of the stand-in: reproducible, and scaled so that signals keep their size."""

import zlib
from math import prod

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

SEED = 2
SPATIAL = (nn.Conv3d, nn.Conv2d)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal float32 values that depend on nothing but a name and a shape."""
    bits = np.random.Philox(key=[SEED, zlib.crc32(name.encode())])
    return np.random.Generator(bits).standard_normal(shape, np.float32)


def fill(module: nn.Module, *, at: str) -> None:
    """Give a network random weights; ``at`` sets it apart from others with the same keys."""
    smooth = {name for name, layer in module.named_modules() if isinstance(layer, SPATIAL)}
    drawn = [
        (key, _value(f"{at}{key}", value.shape, smooth=key.removesuffix(".weight") in smooth))
        for key, value in tree_flatten(module.parameters())
    ]
    module.update(tree_unflatten([(key, mx.array(value)) for key, value in drawn]))


def _value(name: str, shape: tuple[int, ...], *, smooth: bool) -> np.ndarray:
    last = name.rpartition(".")[2]
    noise = draw(name, shape)
    if last == "std-of-means" or ("norm" in name and last == "weight"):
        return 1 + 0.05 * noise
    if last in ("bias", "alpha", "beta", "mean-of-means"):
        return 0.05 * noise
    if "table" in last:
        return 0.2 * noise
    if last == "learnable_registers":
        return noise
    if smooth and prod(shape[1:-1]) > 1:
        return _smooth(name, shape)
    return noise / np.sqrt(prod(shape[1:]))


def _smooth(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel (out, ..., in) that mixes channels and blurs: pictures get areas instead of grain."""
    blur = np.ones(())
    for size in shape[1:-1]:
        profile = np.bartlett(size + 2)[1:-1]
        blur = blur[..., None] * (profile / np.sqrt((profile**2).sum()))
    mix = draw(name, (shape[0], *[1] * blur.ndim, shape[-1])) / np.sqrt(shape[-1])
    return (mix * blur[None, ..., None]).astype(np.float32)
