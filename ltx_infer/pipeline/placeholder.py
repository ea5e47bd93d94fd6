"""Noise in the place of what a transformer would make, to try all around it."""

from collections.abc import Iterator, Mapping

import mlx.core as mx

from ltx_infer.pipeline.recipes import Stage
from ltx_infer.sampling.state import Noise, State, blender
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.model import BOTH

NOTE = "--placeholder: no transformer is run; what it would make is noise"


def noise_steps(
    states: Mapping[StreamName, State], stage: Stage, *, noise: Noise
) -> Iterator[dict[StreamName, mx.array]]:
    """As ``sample``, tokens after every step, evaluated: what is given, and noise elsewhere."""
    streams: Streams = tuple(name for name in BOTH if name in states)
    drawn = tuple(noise(states[name].tokens.shape) for name in streams)
    tokens = blender([states[name] for name in streams])(drawn)
    mx.eval(tokens)
    for _ in stage.sigmas[1:]:
        yield dict(zip(streams, tokens, strict=True))
