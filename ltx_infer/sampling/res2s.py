"""res_2s: an exponential integrator of second order with noise in every step (spec/model.md 8.3).

The state between two model calls is float64 on the host, whatever the device: a GPU has no
float64 in MLX, and the tokens of a clip are small beside one call of the model. The model, the
noise and ``blend`` see float32. Letters: B batch, T tokens, C channels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.sampling.samplers import Denoise
from ltx_infer.sampling.state import Blend, Noise, Tokens

LAST_SIGMA = 0.0011  # where a schedule that ends at 0 stops: the logarithm has no 0
SUBSTEP_ETA = 0.5  # the share of new noise halfway, whatever it is at the end of a step
# Anchors are refined where steps are short, but not so near the end that it is all rounding.
BONG_BELOW_H, BONG_ABOVE_SIGMA = 0.5, 0.03

Doubles = tuple[np.ndarray, ...]  # tokens of every stream, each (B, T, C) float64
# From tokens at a sigma to target tokens at the next; both sigmas; the share of new noise.
Inject = Callable[[Doubles, Doubles, float, float, float], Doubles]


class Coefficients(NamedTuple):
    """Weights of the first slope halfway, and of both slopes at the end."""

    a21: float
    b1: float
    b2: float


def coefficients(h: float) -> Coefficients:
    """For a step of ``h`` = log(sigma / sigma_next), with its substep at h / 2."""
    b2 = 2 * _phi_2(-h)
    return Coefficients(a21=_phi_1(-h / 2) / 2, b1=_phi_1(-h) - b2, b2=b2)


def _phi_1(z: float) -> float:
    return math.expm1(z) / z if z else 1.0


def _phi_2(z: float) -> float:
    # Below this the difference loses more digits than the series leaves out.
    return (math.expm1(z) - z) / z**2 if abs(z) > 1e-5 else 1 / 2 + z / 6


def levels(sigmas: Sequence[float]) -> tuple[float, ...]:
    """The noise levels at which steps begin and end; a last 0 is put a little above it."""
    return (*sigmas[:-1], sigmas[-1] or LAST_SIGMA)


def res_2s(
    denoise: Denoise,
    x: Tokens,
    sigmas: Sequence[float],
    *,
    noise: Noise | None,
    blend: Blend,
    masks: Sequence[np.ndarray] | None = None,
    eta: float = 0.5,
    bong: bool = True,
) -> Iterator[Tokens]:
    """Second order without noise; two model calls a step, and one more where the end is 0.

    ``noise`` is asked for the substep of each stream, video first, then for the step of each;
    without it the path is the flow's own. After noise the given tokens are put back by ``blend``.
    With ``masks``, the denoise masks (B, T) of the streams, tokens are noised by their own level
    instead; then one token whose level is 0 keeps noise from all, as in the reference.
    """
    inject = _injection(noise, blend, masks)
    for sigma, sigma_next in pairwise(levels(sigmas)):
        x = _step(denoise, x, sigma, sigma_next, inject=inject, eta=eta, bong=bong)
        if sigma_next == LAST_SIGMA:
            x = denoise(x, sigma_next)
        yield x


def _step(
    denoise: Denoise,
    x: Tokens,
    sigma: float,
    sigma_next: float,
    *,
    inject: Inject,
    eta: float,
    bong: bool,
) -> Tokens:
    h = math.log(sigma / sigma_next)
    a21, b1, b2 = coefficients(h)
    half, middle = h * a21, math.sqrt(sigma * sigma_next)
    anchor, first = _doubles(x), _doubles(denoise(x, sigma))

    mid = tuple(a + half * (d - a) for a, d in zip(anchor, first, strict=True))
    mid = inject(anchor, mid, sigma, middle, SUBSTEP_ETA)
    if bong and h < BONG_BELOW_H and sigma > BONG_ABOVE_SIGMA:
        # The anchor whose own half step leads to mid. The reference iterates to it 100 times.
        anchor = tuple((m - half * d) / (1 - half) for m, d in zip(mid, first, strict=True))

    second = _doubles(denoise(_floats(mid), middle))
    end = tuple(
        a + h * (b1 * (d1 - a) + b2 * (d2 - a))
        for a, d1, d2 in zip(anchor, first, second, strict=True)
    )
    return _floats(inject(anchor, end, sigma, sigma_next, eta))


def _injection(noise: Noise | None, blend: Blend, masks: Sequence[np.ndarray] | None) -> Inject:
    """How new noise enters a step that was made without it."""
    per_token = [] if masks is None else [mask.astype(np.float64)[..., None] for mask in masks]

    def inject(x: Doubles, target: Doubles, sigma: float, sigma_next: float, eta: float) -> Doubles:
        if noise is None:
            return target
        noisy = tuple(
            sde_step(a, b, standardised(noise(a.shape)), sigma * m, sigma_next * m, eta=eta)
            for a, b, m in zip(x, target, per_token or [1.0] * len(x), strict=True)
        )
        return noisy if per_token else _doubles(blend(_floats(noisy)))

    return inject


def sde_step(
    x: np.ndarray,
    target: np.ndarray,
    noise: np.ndarray,
    sigma: float | np.ndarray,
    sigma_next: float | np.ndarray,
    *,
    eta: float = 0.5,
) -> np.ndarray:
    """Replace a share of the noise of ``target``, reached from ``x`` without new noise.

    Tokens and noise are (B, T, C) float64; both sigmas are numbers or (B, T, 1). ``target`` comes
    back as it is where any token has no noise to replace.
    """
    up = np.minimum(eta, 0.9999) * sigma_next
    if np.any(np.equal(up, 0)):
        return target
    rest = np.sqrt(sigma_next**2 - up**2)
    signal = 1 - sigma_next + rest
    slope = (x - target) / (sigma - sigma_next)
    return signal * (x - sigma * slope + rest / signal * slope) + up * noise


def standardised(noise: mx.array) -> np.ndarray:
    """Noise (B, T, C) as float64 of mean 0 and deviation 1: of all first, then of each sample."""
    values = np.array(noise).astype(np.float64)
    for axes in (None, (-2, -1)):
        values = values - values.mean(axes, keepdims=True)
        values = values / values.std(axes, ddof=1, keepdims=True)
    return values


def _doubles(tokens: Tokens) -> Doubles:
    return tuple(np.array(x).astype(np.float64) for x in tokens)


def _floats(tokens: Doubles) -> Tokens:
    return tuple(mx.array(x.astype(np.float32)) for x in tokens)
