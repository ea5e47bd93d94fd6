"""Rectified flow, the one place that states what the LTX-2 transformer predicts.

A sample at noise level sigma is x = (1 - sigma) * x_0 + sigma * noise, and the model's output is
the velocity dx / dsigma = noise - x_0. Training and sampling both take it from here.
"""

import mlx.core as mx

BASE_TOKENS, MAX_TOKENS = 1024, 4096  # lengths at which the two shifts hold (spec/model.md 8.1)


def add_noise(x_0: mx.array, noise: mx.array, sigma: float | mx.array) -> mx.array:
    """(1 - sigma) x_0 + sigma noise; ``sigma`` is a number or broadcasts to x_0."""
    return (1 - sigma) * x_0 + sigma * noise


def velocity(x_0: mx.array, noise: mx.array) -> mx.array:
    """What the model predicts, at whatever noise level: noise - x_0."""
    return noise - x_0


def denoised(x: mx.array, velocity: mx.array, sigma: float | mx.array) -> mx.array:
    """The clean sample that a velocity at noise level sigma implies, in float32.

    ``sigma`` is a number or broadcasts to x, as a timestep per token does.
    """
    return x.astype(mx.float32) - sigma * velocity.astype(mx.float32)


def token_shift(num_tokens: int, *, base_shift: float = 0.95, max_shift: float = 2.05) -> float:
    """How far a longer sequence is pushed towards high noise: a line through two lengths."""
    slope = (max_shift - base_shift) / (MAX_TOKENS - BASE_TOKENS)
    return base_shift + (num_tokens - BASE_TOKENS) * slope
