"""Each part of a clip through the networks: encoded, upscaled, refined if asked for, decoded."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.models import ClipSize
from ltx_infer.pipeline.run import ClipLatents, Draw, Shared, Turn, sampled
from ltx_infer.pipeline.sanity import check_finite
from ltx_infer.progress import Report
from ltx_infer.sampling.conditions import LatentIndex
from ltx_infer.sampling.state import Noise, seeded_noise
from ltx_infer.upscale.config import UpscaleConfig
from ltx_infer.upscale.networks import Networks, Opened
from ltx_infer.upscale.segments import OVERLAP, Part, padded, segments
from ltx_models.upsampler import upsample
from ltx_models.video_vae.frames import decode_frames, named_tiling
from ltx_models.video_vae.tiling import FRAMES, UNTILED, tiled_encode


class Work(NamedTuple):
    """What is done to every part of a clip."""

    config: UpscaleConfig
    opened: Opened
    networks: Networks
    fps: float  # of the result
    report: Report


def worked(work: Work, frames: Iterator[np.ndarray]) -> Iterator[Part]:
    """The parts of a clip's frames (H, W, 3) in bytes, done one by one as they are asked for."""
    twice = work.config.temporal
    noise = seeded_noise(work.config.seed)
    before = None
    for number, (part, num_shared) in enumerate(segments(frames), 1):
        latents = _upscaled(work, part)
        if work.opened.refinement is not None:
            latents = _refined(work, latents, before, noise=noise, label=f"refine, part {number}")
            before = latents
        num_frames = len(part)
        if twice:
            num_frames, num_shared = _doubled(num_frames), _doubled(num_shared)
        yield Part(_decoded(work, latents), num_frames, num_shared)


def _doubled(num_frames: int) -> int:
    return 2 * num_frames - 1 if num_frames else 0


def _upscaled(work: Work, frames: list[np.ndarray]) -> mx.array:
    """Latents (1, C, F, H, W) of frames, with more of them, evaluated."""
    encoder = work.networks.encoder
    time, space = encoder.config.scale
    pixels = mx.array(padded(frames, time=time, space=space))
    height, width = (side // space for side in pixels.shape[-2:])
    tiling = named_tiling(work.config.tiling, height, width, scale=encoder.config.scale)
    tiling = UNTILED if tiling is None else replace(tiling, frames=FRAMES)
    latents = tiled_encode(encoder, pixels, tiling).astype(mx.float32)
    mx.eval(latents)
    del pixels
    for upscaler in (work.networks.spatial, work.networks.temporal):
        if upscaler is not None:
            latents = upsample(upscaler, latents, statistics=encoder.per_channel_statistics)
            mx.eval(latents)
    mx.clear_cache()
    return latents.astype(mx.float32)


def _refined(
    work: Work, latents: mx.array, before: mx.array | None, *, noise: Noise, label: str
) -> mx.array:
    """Latents through the second stage; those that the part before has, too, are given as its are.

    Raises SanityError when they leave the range that a picture can have.
    """
    models, refinement, networks = work.opened.models, work.opened.refinement, work.networks
    assert refinement is not None
    assert networks.transformer is not None
    time, space = models.video_config.scale
    _, _, F, H, W = latents.shape
    size = ClipSize((F - 1) * time + 1, H * space, W * space, work.fps)
    given = StageInputs()
    if before is not None:
        num_shared = (OVERLAP - 1) // time * (2 if work.config.temporal else 1)
        shared = before[:, :, -num_shared:]
        given = StageInputs(video=(LatentIndex(shared, latent_index=1),))
    (stage,) = refinement.recipe.stages
    found, error = sampled(
        models,
        networks.transformer,
        Shared(refinement.recipe, [given], size),
        Draw(networks.contexts, noise),
        Turn(stage, given, ClipLatents(latents, None), label),
        work.report,
    )
    if error is not None:
        raise error
    assert found is not None
    assert found.video is not None
    mx.clear_cache()
    return found.video


def _decoded(work: Work, latents: mx.array) -> Iterator[np.ndarray]:
    """Chunks of frames (F, H, W, 3) in bytes."""
    decoder = work.networks.decoder
    tiles = named_tiling(work.config.tiling, *latents.shape[-2:], scale=decoder.config.scale)
    for chunk in decode_frames(decoder, latents, tiles):
        frames = np.array(chunk.astype(mx.float32))
        check_finite(frames, stage="decode", start=0)
        yield np.rint(frames * 255).astype(np.uint8)
