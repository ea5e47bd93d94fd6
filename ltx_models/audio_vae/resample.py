"""Sampling rates: interpolation with a sinc under a Hann window (spec/model.md 5.1 and 5.4).

This is torchaudio's default, with which the audio VAE was trained; LTX-2.3's vocoder triples its
rate by the same formula, with the sound held at its first and last sample instead of silence.
"""

from math import ceil, gcd
from typing import Literal

import mlx.core as mx
import numpy as np

ZERO_CROSSINGS = 6  # of the sinc, on either side
ROLLOFF = 0.99  # the cutoff, as a share of the lower of the two Nyquist frequencies
MAX_PHASES = 256  # outputs that one convolution computes for every period of the two rates


def resample(
    waveform: mx.array,
    *,
    source: int,
    target: int,
    edges: Literal["constant", "edge"] = "constant",
) -> mx.array:
    """(..., N) at ``source`` Hz to (..., ceil(N * target / source)) at ``target`` Hz.

    ``edges`` is what lies beyond both ends: zeros, or the first and the last sample.
    """
    if source == target:
        return waveform
    divisor = gcd(source, target)
    source, target = source // divisor, target // divisor
    *batch, num_samples = waveform.shape
    num_periods = ceil(num_samples / source)

    reach = _reach(source, target)
    after = num_periods * source - num_samples + reach
    x = mx.pad(waveform.reshape(-1, num_samples, 1), [(0, 0), (reach, after), (0, 0)], edges)
    phases = [
        _convolve(x, np.arange(first, min(first + MAX_PHASES, target)), source, target)
        for first in range(0, target, MAX_PHASES)
    ]  # each (rows, periods, phases)
    resampled = mx.concatenate(phases, axis=-1).reshape(*batch, -1)
    return resampled[..., : ceil(num_samples * target / source)]


def _convolve(x: mx.array, phases: np.ndarray, source: int, target: int) -> mx.array:
    """The given outputs of each period; input sample 0 of x lies ``reach`` before output 0."""
    reach = _reach(source, target)
    offsets = phases * source / target  # in input samples from the start of the period
    start, stop = int(offsets[0]), int(offsets[-1]) + 1  # the taps lie within reach of these
    taps = np.arange(start - reach, stop + reach)
    kernel = _kernel(taps - offsets[:, None], cutoff=ROLLOFF * min(1, target / source))
    kernel = mx.array(kernel[..., None].astype(np.float32)).astype(x.dtype)
    return mx.conv1d(x[:, start:], kernel, stride=source)


def _reach(source: int, target: int) -> int:
    return ceil(ZERO_CROSSINGS / (ROLLOFF * min(1, target / source)))


def _kernel(distance: np.ndarray, cutoff: float) -> np.ndarray:
    """Weight of an input sample at each distance, in samples; the cutoff 1 is Nyquist's."""
    crossings = np.clip(distance * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(np.pi * crossings / (2 * ZERO_CROSSINGS)) ** 2
    return cutoff * np.sinc(crossings) * window
