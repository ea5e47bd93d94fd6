"""Per-channel statistics that bring VAE latents to mean 0 and deviation 1 (spec/model.md 2.6)."""

import mlx.core as mx
import mlx.nn as nn


class PerChannelStatistics(nn.Module):
    """Means and deviations under their checkpoint keys, applied along one axis."""

    # Statistics that some files carry and nothing computes with.
    idle = ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")

    def __init__(self, num_channels: int):
        super().__init__()
        self["mean-of-means"] = mx.zeros(num_channels)
        self["std-of-means"] = mx.ones(num_channels)

    def normalize(self, latents: mx.array, *, axis: int = -1) -> mx.array:
        """(latents - mean) / std, with the channels on ``axis``."""
        mean, std = self._along(latents, axis)
        return (latents - mean) / std

    def un_normalize(self, latents: mx.array, *, axis: int = -1) -> mx.array:
        """Inverse of ``normalize``: latents * std + mean, with the channels on ``axis``."""
        mean, std = self._along(latents, axis)
        return latents * std + mean

    def _along(self, latents: mx.array, axis: int) -> tuple[mx.array, mx.array]:
        shape = [1] * latents.ndim
        shape[axis] = -1
        return (
            self["mean-of-means"].astype(latents.dtype).reshape(shape),
            self["std-of-means"].astype(latents.dtype).reshape(shape),
        )
