"""Decoding a video against the bare convolutions in it, in float32 on the CPU.

The released LTX-2.3 ladder at base width 32 with random weights, and a latent of 3 x 8 x 8. The
convolutions' shapes are recorded from a run of the decoder; each is then timed on random inputs of
those shapes, with everything around it (padding in time, norms, SiLU, shuffles) left out: as the
decoder computes it, and as a plain ``mx.conv3d``. The faster of the two is what a decode is
measured by.
"""

from collections.abc import Callable
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn

from ltx_models.released import LTX_2_3
from ltx_models.video_vae import VideoDecoder, VideoVAEConfig, layers
from tests.bench.timing import interleaved_medians

BASE_CHANNELS = 32
LATENT = (3, 8, 8)  # frames, height, width


def measure() -> dict[str, float]:
    """Medians in seconds of interleaved runs, and the decode's ratio to the faster bare one."""
    config = VideoVAEConfig.read({**LTX_2_3["vae"], "decoder_base_channels": BASE_CHANNELS})
    mx.random.seed(0)
    decoder = VideoDecoder(config)
    latents = mx.random.normal((1, config.latent_channels, *LATENT))
    mx.eval(decoder.parameters(), latents)
    calls = _convolutions(lambda: mx.eval(decoder(latents)))
    decode_s, by_frames_s, conv3d_s = interleaved_medians(
        [
            lambda: mx.eval(decoder(latents)),
            lambda: [mx.eval(layers.conv_by_frames(conv, x)) for conv, x in calls],
            lambda: [mx.eval(conv(x)) for conv, x in calls],
        ]
    )
    return {
        "decode_s": decode_s,
        "by_frames_s": by_frames_s,
        "conv3d_s": conv3d_s,
        "ratio": decode_s / min(by_frames_s, conv3d_s),
    }


def _convolutions(run: Callable[[], None]) -> list[tuple[nn.Conv3d, mx.array]]:
    """Each convolution that ``run`` makes, with a random input of the same shape."""
    calls: list[tuple[nn.Conv3d, tuple[int, ...]]] = []
    convolve = layers.convolve

    def record(conv: nn.Conv3d, x: mx.array) -> mx.array:
        calls.append((conv, x.shape))
        return convolve(conv, x)

    with patch.object(layers, "convolve", record):
        run()
    inputs = [(conv, mx.random.normal(shape)) for conv, shape in calls]
    mx.eval([x for _, x in inputs])
    return inputs
