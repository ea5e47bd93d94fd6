"""Masks of sounds to the grid of latents (spec/training.md 1.4)."""

import numpy as np

from ltx_models.transformer.patchify import AudioScale, audio_positions


def sound_weights(
    loudness: np.ndarray, *, rate: int, num_latents: int, scale: AudioScale
) -> np.ndarray:
    """(samples,) at ``rate`` a second as one weight a latent (num_latents,), float32.

    The mean over the time of a latent, of which the first is shorter: a causal VAE groups mel
    frames 1 + 4 + 4 ...
    """
    bounds = audio_positions(num_latents, scale=scale)[0, 0]
    places = np.rint(bounds * rate).astype(int).clip(0, len(loudness))
    return np.array(
        [loudness[min(start, stop - 1) : stop].mean() for start, stop in places], np.float32
    )
