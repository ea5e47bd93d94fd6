"""A guided image-to-video run on the stand-in: what is not spent in networks; passes at once.

A run is timed inside one process, imports left out. Every call of a network is evaluated where it
stands, after what it is given, so that each second falls to one part: a network (its weights are
read in its first call), building networks around the files, opening and checking all files and
reading the inputs, writing the clip, or the rest: noise, guidance, sampler, checks of latents.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np
from PIL import Image

from ltx_infer import decode, generate
from ltx_infer.config import GenerateConfig, build
from ltx_infer.job import prepare_job
from ltx_infer.media.write import write_wav
from ltx_infer.pipeline import inputs, run
from ltx_infer.pipeline.models import Models
from ltx_infer.sampling.denoise import sample
from ltx_infer.sampling.sigmas import shifted
from ltx_infer.sampling.state import seeded_noise
from ltx_models.audio_vae import AudioDecoder, AudioEncoder, ExtendedVocoder
from ltx_models.text_encoder import encode
from ltx_models.text_encoder.connector import Connector
from ltx_models.text_encoder.features import FeatureExtractorV2
from ltx_models.transformer.model import Transformer
from ltx_models.video_vae import VideoDecoder, VideoEncoder
from tests.bench.timing import ROUNDS, interleaved_medians

SIZE = {"height": 256, "width": 256, "num_frames": 33}
RUNS = 5
NETWORKS = (
    Transformer,
    VideoEncoder,
    VideoDecoder,
    AudioEncoder,
    AudioDecoder,
    ExtendedVocoder,
    FeatureExtractorV2,
    Connector,
)
PARTS = {
    "building": (
        (Models, "transformer"),
        (inputs, "load_video_encoder"),
        (inputs, "load_audio_encoder"),
        (run, "load_video_decoder"),
        (encode, "load_gemma"),
        (encode, "load_tokenizer"),
        (encode, "load_feature_extractor"),
        (encode, "load_connectors"),
    ),
    "opening": ((generate, "prepare_job"),),
    "writing": ((decode, "write_clip"),),
}


def measure() -> dict[str, float]:
    """Medians over runs: seconds of the whole and of its parts, and the share outside networks.

    The pipeline's own 30 steps. Building networks around their files counts as theirs in
    ``outside_share``; ``with_building_share`` counts it as outside.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = _guided_config(Path(folder))
        generate.generate(config, report=_quietly)
        runs = []
        for _ in range(RUNS):
            with _timed() as seconds:
                start = perf_counter()
                generate.generate(config, report=_quietly)
                seconds["wall"] = perf_counter() - start
            runs.append(seconds)
    for seconds in runs:
        named = sum(seconds[part] for part in ("networks", *PARTS))
        seconds["rest"] = seconds["wall"] - named
        outside = seconds["opening"] + seconds["writing"] + seconds["rest"]
        seconds["outside_share"] = outside / seconds["wall"]
        seconds["with_building_share"] = (outside + seconds["building"]) / seconds["wall"]
    return {key: median(seconds[key] for seconds in runs) for key in runs[0]}


def measure_batched() -> dict[str, float]:
    """Seconds of a step of four passes one by one, and of one that makes them at once."""
    with tempfile.TemporaryDirectory() as folder:
        config = _guided_config(Path(folder), steps=1, stg_scale=1.0, modality_scale=3.0)
        model, states, contexts, stage = _given_to_sample(config)
    stage = replace(stage, sigmas=shifted(ROUNDS + 1))
    sequential, batched = (
        sample(model, states, contexts, stage, noise=seeded_noise(0), max_batch_size=count)
        for count in (1, 4)
    )
    sequential_s, batched_s = interleaved_medians([lambda: next(sequential), lambda: next(batched)])
    return {
        "sequential_s": sequential_s,
        "batched_s": batched_s,
        "ratio": batched_s / sequential_s,
    }


def _guided_config(folder: Path, **more: object) -> GenerateConfig:
    """Two images, the second as a guide at the last frame, and a sound that is kept."""
    rows, columns = np.mgrid[:256, :256]
    for name, pixels in {"one": (rows, columns, rows), "two": (columns, rows, columns)}.items():
        Image.fromarray(np.stack(pixels, -1).astype(np.uint8)).save(folder / f"{name}.png")
    tone = np.sin(np.arange(96_000) / 48_000 * 2 * np.pi * 440).astype(np.float32) / 4
    write_wav(folder / "tone.wav", np.stack([tone, tone]), rate=48_000)
    given = {
        "prompt": "a lighthouse at dusk, waves",
        "pipeline": "dev",
        "model": "tiny",
        "image": ([folder / "one.png"], [folder / "two.png", SIZE["num_frames"] - 1, 0.8]),
        "audio_file": folder / "tone.wav",
        "output_path": folder / "out.mp4",
    }
    return build({**given, **SIZE, **more})


def _given_to_sample(config: GenerateConfig) -> tuple[Any, ...]:
    """What a run gives to ``sample``: model, states, contexts, stage."""
    taken: list[tuple[Any, ...]] = []

    def take(*args: Any, **kwargs: Any) -> Iterator[dict]:
        taken.append(args)
        return sample(*args, **kwargs)

    job = prepare_job(config, say=_quietly)
    with patch.object(run, "sample", take):
        generate.make_latents(job, report=_quietly, noise=seeded_noise(0))
    return taken[0]


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Seconds of each part while the block runs; a part inside another counts for itself alone."""
    seconds = dict.fromkeys(("networks", *PARTS), 0.0)
    inner = [0.0]  # of what runs now: seconds of the parts in it
    inside: list[str] = []  # which parts run now

    def timed(part: str, function: Callable, *, evaluated: bool) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if "opening" in inside:  # where the memory plan follows networks without computing
                return function(*args, **kwargs)
            if evaluated:
                mx.eval(args[1:], kwargs)
            inner.append(0.0)
            inside.append(part)
            start = perf_counter()
            found = function(*args, **kwargs)
            if evaluated:
                mx.eval(found)
            taken = perf_counter() - start
            inside.pop()
            seconds[part] += taken - inner.pop()
            inner[-1] += taken
            return found

        return call

    with ExitStack() as stack:
        for network in NETWORKS:
            call = timed("networks", network.__call__, evaluated=True)
            stack.enter_context(patch.object(network, "__call__", call))
        gemma = timed("networks", encode.hidden_states, evaluated=True)
        stack.enter_context(patch.object(encode, "hidden_states", gemma))
        # The decoder goes through the frames layer by layer, and is not called as a whole.
        decoded = timed("networks", partial(_all, run.decode_frames), evaluated=False)
        stack.enter_context(patch.object(run, "decode_frames", decoded))
        for part, places in PARTS.items():
            for owner, name in places:
                call = timed(part, getattr(owner, name), evaluated=False)
                stack.enter_context(patch.object(owner, name, call))
        yield seconds


def _all(frames: Callable[..., Iterator[mx.array]], *given: Any) -> list[mx.array]:
    return list(frames(*given))


def _quietly(*_: object) -> None:
    pass
