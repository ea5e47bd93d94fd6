"""The random numbers of a batch, from the seed and the batch's number alone.

So a run can be taken up at any step, and a recorded one be replayed with other ``Draws``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_train.timesteps import draw_sigmas


class Draws(NamedTuple):
    """Where random numbers come from; each call gives the next ones."""

    sigma: Callable[[int, int], np.ndarray]  # samples and tokens of each, to levels (samples,)
    normal: Callable[[tuple[int, ...]], mx.array]  # a shape to standard normal float32 values
    uniform: Callable[[int], np.ndarray]  # a count to values (count,) in [0, 1)


def seeded_draws(key: Sequence[int], *, mode: str, params: Mapping[str, float]) -> Draws:
    """Draws of a key such as (seed, stream, step); ``mode`` and ``params`` are the levels'.

    Levels, noise and choices have streams of their own, so that a condition that is added to a
    configuration changes neither the levels nor the noise.
    """
    levels, noise, choices = (np.random.default_rng([*key, part]) for part in range(3))

    def sigma(count: int, num_tokens: int) -> np.ndarray:
        drawn = draw_sigmas(levels, count, mode, params, num_tokens=num_tokens)
        return drawn.astype(np.float32)

    return Draws(
        sigma=sigma,
        normal=lambda shape: mx.array(noise.standard_normal(shape, np.float32)),
        uniform=choices.random,
    )
