"""Latents of 50 short clips: what reading them costs beside the encoder.

Clips of 1280x720 and 25 frames in H.264, brought to 256x160; the released LTX-2.3 ladder at base
width 32 with random weights, in float32. The bare encoder has all clips in memory, resized. Rounds
of the two are taken in turns. The encoder waits while it asks for a clip that is not there yet.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
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
from ltx_train.precompute.ahead import worker_pool
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.encode import Work, encode_pictures
from ltx_train.precompute.store import Maker
from ltx_train.precompute.tasks import Plan

NUM_CLIPS, NUM_FILES, ROUNDS = 50, 5, 3
BUCKET = Bucket(256, 160, 25)
BASE_CHANNELS = 32


def measure() -> dict[str, float]:
    """Median share of the wall time in which the encoder waits, and seconds over the bare ones."""
    config = VideoVAEConfig.read({**LTX_2_3["vae"], "encoder_base_channels": BASE_CHANNELS})
    mx.random.seed(0)
    encoder = VideoEncoder(config)
    mx.eval(encoder.parameters())
    shares, ratios, seconds = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [_write(Path(folder) / f"{i}.mp4", seed=i) for i in range(NUM_FILES)]
        videos = [mx.array(_pixels(path)) for path in paths]
        mx.eval(tiled_encode(encoder, videos[0]))
        for number in range(ROUNDS):
            start = perf_counter()
            for i in range(NUM_CLIPS):
                mx.eval(tiled_encode(encoder, videos[i % NUM_FILES]))
            bare_s = perf_counter() - start
            out = Path(folder) / f"out{number}"
            wall_s, waited_s = _precompute(paths, out, encoder, config)
            shares.append(waited_s / wall_s)
            ratios.append(wall_s / bare_s)
            seconds.append(wall_s / NUM_CLIPS)
    return {
        "clip_s": median(seconds),
        "waiting_share": median(shares),
        "ratio": median(ratios),
    }


def _precompute(
    paths: list[Path], out: Path, encoder: VideoEncoder, config: VideoVAEConfig
) -> tuple[float, float]:
    """Seconds of all and of waiting; the workers' start is in both."""
    plan = Plan(PrecomputeConfig(out, "tiny"), Maker("2.3.0", "bench"), config.scale)
    seen = [_seen(paths[i % NUM_FILES], f"{i}.mp4") for i in range(NUM_CLIPS)]
    waited = 0.0
    ahead = encode.decode_ahead

    def timed(*args, **kwargs) -> Iterator:
        nonlocal waited
        results = ahead(*args, **kwargs)
        for _ in count():
            start = perf_counter()
            result = next(results, None)
            waited += perf_counter() - start
            if result is None:
                return
            yield result

    start = perf_counter()
    with worker_pool() as pool, patch.object(encode, "decode_ahead", timed):
        work = Work(seen, plan, pool, lambda stage, done, total: None)
        encode_pictures(work, encoder)
    assert not work.faults
    assert len(work.written) == NUM_CLIPS
    return perf_counter() - start, waited


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
