"""Waveforms to the log-mel spectra that the audio VAE encodes (spec/model.md 5.1)."""

from functools import cache

import mlx.core as mx
import numpy as np

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.resample import resample
from ltx_models.errors import UserError

FLOOR = 1e-5  # of a mel magnitude, before its logarithm


def to_stereo(waveform: mx.array) -> mx.array:
    """(B, 1 or 2, N) to (B, 2, N): a single channel is heard on both sides.

    Raises UserError for other numbers of channels, as nothing here can mix them down rightly.
    """
    channels = waveform.shape[1]
    if channels not in (1, 2):
        raise UserError(f"a sound of {channels} channels; mono and stereo can be encoded")
    return mx.repeat(waveform, 2, axis=1) if channels == 1 else waveform


def waveform_to_mel(waveform: mx.array, *, sampling_rate: int, config: AudioVAEConfig) -> mx.array:
    """Waveform (B, 1 or 2, N), at any rate in Hz, to log-mel (B, 2, T, mel bins), float32.

    T is 1 + N' // hop_length for the N' samples at the audio VAE's own rate.
    """
    stereo = to_stereo(waveform.astype(mx.float32))
    rate = config.scale.sampling_rate
    return log_mel(resample(stereo, source=sampling_rate, target=rate), config=config)


def log_mel(waveform: mx.array, *, config: AudioVAEConfig) -> mx.array:
    """(..., N) at the audio VAE's rate to the logarithm of its mel magnitudes (..., T, mel bins).

    Raises UserError where the sound is too short to be mirrored at its ends.
    """
    stft = config.preprocessing.stft
    size, hop = stft.filter_length, stft.hop_length
    *batch, num_samples = waveform.shape
    if num_samples <= size // 2:
        raise UserError(
            f"a sound of {num_samples} samples at {config.scale.sampling_rate} Hz; "
            f"at least {size // 2 + 1} can be encoded"
        )
    padded = mx.pad(waveform.reshape(-1, num_samples), [(0, 0), (size // 2, size // 2)], "reflect")
    rows, length = padded.shape
    num_frames = 1 + num_samples // hop
    frames = mx.as_strided(padded, (rows, num_frames, size), (length, hop, 1))
    magnitudes = mx.abs(mx.fft.rfft(frames * _hann(size)))
    filters = _mel_filters(config.scale.sampling_rate, size, config.ddconfig.mel_bins)
    spectrum = magnitudes @ mx.array(filters).T
    return mx.log(mx.maximum(spectrum, FLOOR)).reshape(*batch, num_frames, -1)


def _hann(size: int) -> mx.array:
    """Periodic: the window whose copies at every hop add up to a constant."""
    return mx.array((np.sin(np.pi * np.arange(size) / size) ** 2).astype(np.float32))


@cache
def _mel_filters(sampling_rate: int, fft_size: int, num_bins: int) -> np.ndarray:
    """(bins, fft_size / 2 + 1): triangles on Slaney's scale, of equal area."""
    import librosa.filters  # noqa: PLC0415 # half a second, for those who encode sound only

    return librosa.filters.mel(sr=sampling_rate, n_fft=fft_size, n_mels=num_bins)
