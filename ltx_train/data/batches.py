"""Samples to batches, and what is drawn for each: noise levels and noise."""

from collections.abc import Iterator, Mapping, Sequence

import mlx.core as mx
import numpy as np

from ltx_models.transformer.patchify import VideoScale, patchify_video, video_positions
from ltx_train.config import TrainConfig
from ltx_train.data.dataset import Sample, endless_batches, read_latents
from ltx_train.loss import Batch, StreamBatch
from ltx_train.timesteps import draw_sigmas

DRAWS = 1  # which of the seed's streams of random numbers; 0 is the order of the samples


def make_batches(
    samples: Sequence[Sample],
    contexts: Mapping[str, mx.array],
    config: TrainConfig,
    *,
    scale: VideoScale,
) -> Iterator[Batch]:
    """Batches for ever. ``contexts`` has (1, S, dim) by the samples' names.

    Step, seed and samples alone decide a batch, so that a run can be taken up at any step.
    Raises UserError where the samples do not make batches of the wanted size.
    """
    size = config.optimization.batch_size
    for step, chosen in enumerate(endless_batches(samples, batch_size=size, seed=config.seed), 1):
        rng = np.random.default_rng([config.seed, DRAWS, step])
        yield {"video": _video_batch(chosen, contexts, config, rng=rng, scale=scale)}


def _video_batch(
    chosen: Sequence[Sample],
    contexts: Mapping[str, mx.array],
    config: TrainConfig,
    *,
    rng: np.random.Generator,
    scale: VideoScale,
) -> StreamBatch:
    x_0 = mx.concatenate([patchify_video(read_latents(sample)[None]) for sample in chosen])
    flow = config.flow_matching
    sigma = draw_sigmas(
        rng,
        len(chosen),
        flow.timestep_sampling_mode,
        flow.timestep_sampling_params,
        num_tokens=x_0.shape[1],
    )
    positions = [video_positions(each.shape[1:], fps=each.fps, scale=scale) for each in chosen]
    return StreamBatch(
        x_0=x_0,
        noise=mx.array(rng.standard_normal(x_0.shape, np.float32)),
        sigma=sigma.astype(np.float32),
        denoise_mask=np.ones(x_0.shape[:2], np.float32),
        positions=np.concatenate(positions),
        context=mx.concatenate([contexts[sample.name] for sample in chosen]),
    )
