"""What a vocoder file stores besides weights: filters and bases that have a formula (spec 5.4)."""

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

NUM_TAPS, CUTOFF, HALF_WIDTH = 12, 0.25, 0.3
RATE, LOWEST, HIGHEST = 16000, 0.0, 8000.0  # of the mel basis, in Hz


def stored_filters(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """The values of those keys that are filters or bases, in the shapes they have."""
    found = {key: mx.array(low_pass()[None, None]) for key in _ending(tensors, ".filter")}
    for key in _ending(tensors, "stft_fn.forward_basis"):
        found[key] = mx.array(fourier_basis(tensors[key].shape[-1])[:, None])
        found[key.replace("forward", "inverse")] = found[key]
    for key in _ending(tensors, "mel_basis"):
        from librosa.filters import mel  # noqa: PLC0415  (a second to import; made once)

        num_mels, num_bins = tensors[key].shape
        basis = mel(sr=RATE, n_fft=2 * num_bins - 2, n_mels=num_mels, fmin=LOWEST, fmax=HIGHEST)
        found[key] = mx.array(basis)
    return found


def low_pass() -> np.ndarray:
    """A sinc under Kaiser's window, of sum 1, as BigVGAN makes it."""
    half = NUM_TAPS // 2
    attenuation = 2.285 * (half - 1) * np.pi * 4 * HALF_WIDTH + 7.95
    beta = (
        0.1102 * (attenuation - 8.7)
        if attenuation > 50
        else (0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21))
    )
    times = np.arange(-half, half) + 0.5
    taps = np.sinc(2 * CUTOFF * times) * np.kaiser(NUM_TAPS, beta)
    return (taps / taps.sum()).astype(np.float32)


def fourier_basis(size: int) -> np.ndarray:
    """Cosines, then sines (size + 2, size), under a periodic Hann window."""
    waves = np.fft.rfft(np.eye(size)).T
    window = np.hanning(size + 1)[:-1]
    return (np.concatenate([waves.real, waves.imag]) * window).astype(np.float32)


def _ending(keys: Iterable[str], suffix: str) -> list[str]:
    return [key for key in keys if key.endswith(suffix)]
