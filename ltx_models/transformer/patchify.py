"""Latents to tokens and back, and where each token lies (spec/model.md 3.6 and 5.2).

Patch size is 1: a token is one latent pixel of the picture, or one latent frame of the sound.
Positions are [start, end) bounds, (1, axes, T, 2) float32, on the host: RoPE is built there.
Letters: B batch, C channels, F H W latent frames, rows, columns, T tokens, M mel bins.
"""

from typing import NamedTuple

import mlx.core as mx
import numpy as np


class VideoScale(NamedTuple):
    """Frames, and pixels of height or width, that one latent stands for."""

    time: int
    space: int


class AudioScale(NamedTuple):
    """Latent frames of the sound in time."""

    sampling_rate: int  # of the waveform that the mel spectrum is made of, in Hz
    hop_length: int  # samples to one mel frame
    time: int  # mel frames to one latent

    @property
    def latents_per_second(self) -> float:
        """25 in every release."""
        return self.sampling_rate / self.hop_length / self.time

    def num_latents(self, num_frames: int, fps: float) -> int:
        """How many latent frames the sound of a clip has."""
        return round(num_frames / fps * self.latents_per_second)


def patchify_video(latents: mx.array) -> mx.array:
    """(B, C, F, H, W) to tokens (B, F * H * W, C), frame by frame, row by row."""
    return latents.flatten(2).swapaxes(1, 2)


def unpatchify_video(tokens: mx.array, size: tuple[int, int, int]) -> mx.array:
    """Tokens (B, T, C) back to (B, C, F, H, W), where size is (F, H, W)."""
    return mx.unflatten(tokens.swapaxes(1, 2), -1, size)


def patchify_audio(latents: mx.array) -> mx.array:
    """(B, C, T, M) to tokens (B, T, C * M), with the mel bin fastest."""
    return latents.swapaxes(1, 2).flatten(2)


def unpatchify_audio(tokens: mx.array, channels: int) -> mx.array:
    """Tokens (B, T, C * M) back to (B, C, T, M)."""
    return mx.unflatten(tokens, -1, (channels, -1)).swapaxes(1, 2)


def video_positions(size: tuple[int, int, int], *, fps: float, scale: VideoScale) -> np.ndarray:
    """Bounds (1, 3, T, 2) of every token in seconds, pixel rows and pixel columns.

    The first latent frame is one pixel frame; each later one is ``scale.time`` of them.
    """
    bounds = video_bounds(size, scale=scale)
    bounds[:, 0] /= np.float32(fps)
    return bounds


def video_bounds(
    size: tuple[int, int, int], *, scale: VideoScale, causal: bool = True
) -> np.ndarray:
    """Bounds (1, 3, T, 2) of every token in pixel frames, rows and columns.

    Unless ``causal``, the first latent frame is as long as the others.
    """
    starts = np.indices(size, dtype=np.float32).reshape(3, -1)
    factors = np.array([scale.time, scale.space, scale.space], np.float32)
    bounds = np.stack([starts, starts + 1], axis=-1) * factors[:, None, None]
    if causal:
        bounds[0] = np.maximum(bounds[0] + (1 - scale.time), 0)
    return bounds[None]


def audio_positions(num_latents: int, *, scale: AudioScale) -> np.ndarray:
    """Bounds (1, 1, T, 2) of every token in seconds; the first one is a single mel frame."""
    edges = np.arange(num_latents + 1, dtype=np.float32) * scale.time
    mel = np.maximum(edges + (1 - scale.time), 0)
    seconds = mel * np.float32(scale.hop_length) / np.float32(scale.sampling_rate)
    return np.stack([seconds[:-1], seconds[1:]], axis=-1)[None, None]
