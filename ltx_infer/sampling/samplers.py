"""Integrators of the flow from noise (sigma = 1) to sample (sigma = 0), spec/model.md 8.3.

Each is a generator that yields the tokens after every step. MLX is lazy, so the caller decides
when to evaluate, and between steps it may report progress, save a preview or stop. The second
order one is in ``res2s``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import mlx.core as mx

from ltx_infer.sampling.state import Blend, Noise, Tokens

# Tokens at a sigma to the clean tokens they imply, with those that are given already put back.
Denoise = Callable[[Tokens, float], Tokens]


def euler(denoise: Denoise, x: Tokens, sigmas: Sequence[float]) -> Iterator[Tokens]:
    """First order: straight along the velocity from each sigma to the next."""
    for sigma, sigma_next in pairwise(sigmas):
        clean = denoise(x, sigma)
        x = tuple(euler_step(a, x_0, sigma, sigma_next) for a, x_0 in zip(x, clean, strict=True))
        yield x


def euler_step(x: mx.array, x_0: mx.array, sigma: float, sigma_next: float) -> mx.array:
    """One step of one stream: x + velocity * (sigma_next - sigma). Tokens (B, T, C)."""
    return x + (x - x_0) / sigma * (sigma_next - sigma)


def euler_ancestral(
    denoise: Denoise,
    x: Tokens,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    blend: Blend,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Tokens]:
    """Euler to below each next sigma, and new noise back up to it.

    ``noise`` is asked once a stream and step, video first, and not for a step to 0; with ``eta`` 0
    not at all, and the path is Euler's.
    """
    for sigma, sigma_next in pairwise(sigmas):
        clean = denoise(x, sigma)
        if sigma_next == 0:
            x = clean
        elif eta == 0:
            x = tuple(euler_step(*pair, sigma, sigma_next) for pair in zip(x, clean, strict=True))
        else:
            x = blend(
                tuple(
                    ancestral_step(
                        a, x_0, noise(a.shape), sigma, sigma_next, eta=eta, s_noise=s_noise
                    )
                    for a, x_0 in zip(x, clean, strict=True)
                )
            )
        yield x


def ancestral_step(
    x: mx.array,
    x_0: mx.array,
    noise: mx.array,
    sigma: float,
    sigma_next: float,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> mx.array:
    """One step of one stream to a ``sigma_next`` above 0, in the flow's scaling (spec 8.3).

    The signal is scaled so that its share and the noise's are those of ``sigma_next``. Tokens and
    noise are (B, T, C).
    """
    down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
    signal = (1 - sigma_next) / (1 - down)
    renoise = math.sqrt(max(sigma_next**2 - (down * signal) ** 2, 0))
    lower = x_0 + (x - x_0) * (down / sigma)
    return lower * signal + noise * (s_noise * renoise)
