"""Integrators of the flow from noise (sigma = 1) to sample (sigma = 0), spec/model.md 8.3.

Each is a generator that yields the tokens after every step. MLX is lazy, so the caller decides
when to evaluate, and between steps it may report progress, save a preview or stop.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import mlx.core as mx

Tokens = tuple[mx.array, ...]  # (video,), (audio,) or (video, audio), each (B, T, C) float32
Denoise = Callable[[Tokens, float], Tokens]  # tokens at a sigma to the clean tokens they imply


def euler(denoise: Denoise, x: Tokens, sigmas: Sequence[float]) -> Iterator[Tokens]:
    """First order: straight along the velocity from each sigma to the next."""
    for sigma, sigma_next in pairwise(sigmas):
        clean = denoise(x, sigma)
        x = tuple(
            a + (a - x_0) / sigma * (sigma_next - sigma) for a, x_0 in zip(x, clean, strict=True)
        )
        yield x
