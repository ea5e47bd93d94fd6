"""LTX-2.3's vocoder: sound at 16 kHz, whose upper band a second generator adds (spec 5.4)."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae.bigvgan import BigVGAN
from ltx_models.audio_vae.config import VOCODER_MEL_BINS, BandwidthConfig, ExtendedVocoderConfig
from ltx_models.audio_vae.mel import FLOOR
from ltx_models.audio_vae.resample import resample


class Stft(nn.Module):
    """A Fourier basis under its key: windowed cosines, then windowed sines."""

    def __init__(self, n_fft: int):
        super().__init__()
        self.forward_basis = mx.zeros((n_fft + 2, 1, n_fft))


class MelStft(nn.Module):
    """Log-mel magnitudes by stored bases; a frame ends with the samples that it is for."""

    def __init__(self, config: BandwidthConfig):
        super().__init__()
        self.n_fft, self.hop_length = config.n_fft, config.hop_length
        self.stft_fn = Stft(config.n_fft)
        self.mel_basis = mx.zeros((config.num_mels, config.n_fft // 2 + 1))

    def __call__(self, waveform: mx.array) -> mx.array:
        """(B, 2, N), N a multiple of the hop, to (B, 2, N / hop, num_mels)."""
        x = mx.pad(waveform.flatten(0, 1), [(0, 0), (self.n_fft - self.hop_length, 0)])
        basis = self.stft_fn.forward_basis.swapaxes(1, 2)
        real, imaginary = mx.split(mx.conv1d(x[..., None], basis, stride=self.hop_length), 2, -1)
        magnitudes = mx.sqrt(mx.square(real) + mx.square(imaginary))
        mel = mx.log(mx.maximum(magnitudes @ self.mel_basis.T, FLOOR))
        return mx.unflatten(mel, 0, waveform.shape[:2])


class ExtendedVocoder(nn.Module):
    """Keys are those of ``vocoder.`` in an LTX-2.3 checkpoint, without that prefix."""

    def __init__(self, config: ExtendedVocoderConfig):
        super().__init__()
        self.sampling_rate = config.bwe.output_sampling_rate  # of the sound, in Hz
        self.base_sampling_rate = config.bwe.input_sampling_rate
        self.bounded_by_tanh = config.vocoder.use_tanh_at_final
        self.vocoder = BigVGAN(config.vocoder, num_mels=VOCODER_MEL_BINS)
        self.bwe_generator = BigVGAN(config.bwe, num_mels=config.bwe.num_mels)
        self.mel_stft = MelStft(config.bwe)

    def __call__(self, mel: mx.array) -> mx.array:
        """Log-mel (B, 2, T, 64) to sound (B, 2, N) in [-1, 1], float32; N is 480 T."""
        base = self.vocoder(mel)
        return self.extend(mx.tanh(base) if self.bounded_by_tanh else mx.clip(base, -1, 1))

    def extend(self, waveform: mx.array) -> mx.array:
        """Sound (B, 2, N) at the base rate to (B, 2, 3 N) at ``sampling_rate``."""
        num_samples = waveform.shape[-1]
        spare = -num_samples % self.mel_stft.hop_length
        waveform = mx.pad(waveform, [(0, 0), (0, 0), (0, spare)])
        low = resample(
            waveform, source=self.base_sampling_rate, target=self.sampling_rate, edges="edge"
        )
        high = self.bwe_generator(self.mel_stft(waveform))
        length = num_samples * self.sampling_rate // self.base_sampling_rate
        return mx.clip(high + low, -1, 1)[..., :length]
