"""Twice the frames of a finished clip, by the temporal latent upscaler."""

from pathlib import Path

import mlx.core as mx

from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.saved import Saved
from ltx_infer.progress import Report
from ltx_models.errors import UserError
from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import load_video_statistics


def doubled(models: Models, saved: Saved, *, report: Report) -> Saved:
    """A clip with twice the frames, if that is to be done to it: N become 2N - 1 in the same time.

    Raises UserError where the upscaler's file is gone.
    """
    video, path = saved.latents.video, saved.temporal_upscaler
    if video is None or path is None:
        return saved
    if not path.is_file():
        raise UserError(f"{path}: the run's temporal upscaler is not there any more")
    report("temporal upscale", 0, 1)
    larger = _with_more_frames(models, path, video)
    mx.clear_cache()
    report("temporal upscale", 1, 1)
    latents = saved.latents._replace(video=larger)
    return saved._replace(latents=latents, fps=2 * saved.fps, temporal_upscaler=None)


def _with_more_frames(models: Models, path: Path, video: mx.array) -> mx.array:
    """Latents (1, C, F, H, W) to (1, C, 2F - 1, H, W), evaluated; the upscaler is freed again."""
    statistics = load_video_statistics(models.checkpoint, dtype=models.dtype)
    upscaler = load_upsampler(path, dtype=models.dtype)
    larger = upsample(upscaler, video, statistics=statistics)
    mx.eval(larger)
    return larger
