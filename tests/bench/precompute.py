"""Latents of 50 short clips: what reading them costs beside the encoder.

Clips of 1280x720 and 17 frames in H.264, brought to 256x160; the released LTX-2.3 ladder at base
width 32 with random weights, in float32. The bare encoder has its clips in memory, resized; after
every five clips it is timed on the same, so that drift hits both. The workers' start counts as
waiting.
"""

import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np

from ltx_infer.media.video import video_pixels
from ltx_infer.media.write import write_clip
from ltx_models.released import LTX_2_3
from ltx_models.video_vae import VideoVAEConfig
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.tiling import tiled_encode
from ltx_train.inputs.buckets import Bucket
from ltx_train.inputs.item import Item
from ltx_train.inputs.sheet import Seen
from ltx_train.precompute import encode
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.encode import Work, encode_pictures
from ltx_train.precompute.store import Maker
from ltx_train.precompute.tasks import Plan
from ltx_train.reading.ahead import decode_ahead, worker_pool

NUM_CLIPS, NUM_FILES, BLOCK = 50, 5, 5
BUCKET = Bucket(256, 160, 17)
BASE_CHANNELS = 32
MAKER = Maker("2.3.0", "bench")


@cache  # for two goals
def measure() -> dict[str, float]:
    """Share of the wall time in which the encoder waits, and seconds a clip over the bare ones."""
    config = VideoVAEConfig.read({**LTX_2_3["vae"], "latent_channels": BASE_CHANNELS})
    mx.random.seed(0)
    encoder = VideoEncoder(config)
    mx.eval(encoder.parameters())
    with tempfile.TemporaryDirectory() as folder:
        paths = [_write(Path(folder) / f"{i}.mp4", seed=i) for i in range(NUM_FILES)]
        videos = [mx.array(_pixels(path)) for path in paths]
        clock = Clock(lambda i: mx.eval(tiled_encode(encoder, videos[i % NUM_FILES])))
        clock.bare(0)
        plan = Plan(PrecomputeConfig(Path(folder) / "out", "tiny"), MAKER, config.scale)
        seen = [_seen(paths[i % NUM_FILES], f"{i}.mp4") for i in range(NUM_CLIPS)]
        start = perf_counter()
        with patch.object(encode, "decode_ahead", clock.decode_ahead), worker_pool() as pool:
            work = Work(seen, plan, pool, lambda stage, done, total: None)
            encode_pictures(work, encoder)
        wall_s = perf_counter() - start - clock.bare_s
    assert not work.faults
    assert len(work.written) == NUM_CLIPS
    return {
        "clip_s": wall_s / NUM_CLIPS,
        "waiting_share": clock.waited_s / wall_s,
        "ratio": wall_s / clock.bare_s,
    }


class Clock:
    """Times what the encoder waits for, and in between, in blocks, the bare encoder."""

    def __init__(self, bare: Callable[[int], None]):
        self.bare = bare
        self.bare_s = self.waited_s = 0.0

    def decode_ahead(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As ``ahead.decode_ahead``."""
        results = decode_ahead(*args, **kwargs)
        for number in count(1):
            start = perf_counter()
            result = next(results, None)
            self.waited_s += perf_counter() - start
            if result is None:
                return
            yield result
            if number % BLOCK == 0:
                start = perf_counter()
                for i in range(number - BLOCK, number):
                    self.bare(i)
                self.bare_s += perf_counter() - start


def _seen(path: Path, name: str) -> Seen:
    return Seen(
        item=Item(path, name),
        num_frames=BUCKET.num_frames,
        fps=Fraction(24),
        height=720,
        width=1280,
        duration=BUCKET.num_frames / 24,
        has_sound=False,
        is_still=False,
        is_hdr=False,
        bucket=BUCKET,
    )


def _write(path: Path, *, seed: int) -> Path:
    """A clip that moves, with as much in it as a camera sees, roughly."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (90, 160, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(picture, 4 * i, axis=1) for i in range(BUCKET.num_frames)])
    write_clip(path, [frames], fps=24)
    return path


def _pixels(path: Path) -> np.ndarray:
    width, height, num_frames = BUCKET
    return video_pixels(path, height=height, width=width, max_frames=num_frames)
