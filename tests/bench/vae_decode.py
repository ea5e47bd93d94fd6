"""Decoding a video against the bare convolutions in it, in float32 on the CPU.

The released LTX-2.3 ladder at base width 32 with random weights, and a latent of 3 x 8 x 8. The
convolutions' shapes are recorded from a run of the decoder; each is then timed on random inputs of
those shapes, with everything around it (padding in time, norms, SiLU, shuffles) left out.
"""

import time
from collections.abc import Callable
from statistics import median
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn

from ltx_models.released import LTX_2_3
from ltx_models.video_vae import VideoDecoder, VideoVAEConfig, layers

BASE_CHANNELS = 32
LATENT = (3, 8, 8)  # frames, height, width
RUNS = 7


def measure() -> dict[str, float]:
    """Medians in seconds of interleaved runs, and their ratio."""
    config = VideoVAEConfig.read({**LTX_2_3["vae"], "decoder_base_channels": BASE_CHANNELS})
    mx.random.seed(0)
    decoder = VideoDecoder(config)
    latents = mx.random.normal((1, config.latent_channels, *LATENT))
    mx.eval(decoder.parameters(), latents)
    convolutions = _convolutions(lambda: mx.eval(decoder(latents)))

    decode, bare = [], []
    for _ in range(RUNS):
        decode.append(_seconds(lambda: mx.eval(decoder(latents))))
        bare.append(sum(_seconds(convolution) for convolution in convolutions))
    return {
        "decode_s": median(decode),
        "bare_convolutions_s": median(bare),
        "ratio": median(decode) / median(bare),
    }


def _convolutions(run: Callable[[], None]) -> list[Callable[[], None]]:
    """One ``mx.conv3d`` on random arrays for each convolution that ``run`` makes."""
    calls: list[tuple[nn.Conv3d, tuple[int, ...]]] = []
    convolve = layers.convolve

    def record(conv: nn.Conv3d, x: mx.array) -> mx.array:
        calls.append((conv, x.shape))
        return convolve(conv, x)

    with patch.object(layers, "convolve", record):
        run()
    return [_bare(conv, mx.random.normal(shape)) for conv, shape in calls]


def _bare(conv: nn.Conv3d, x: mx.array) -> Callable[[], None]:
    weight = mx.random.normal(conv.weight.shape)
    mx.eval(x, weight)
    return lambda: mx.eval(mx.conv3d(x, weight, conv.stride, conv.padding))


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
