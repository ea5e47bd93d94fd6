"""``Pipeline``: everything that ltx-generate does, from Python and with the same names."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltx_infer.config import GenerateConfig, build
from ltx_infer.generate import Say, generate, make_latents, prepare_job
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.run import ClipLatents, decode_audio, decode_video
from ltx_infer.pipeline.sanity import check_sound, checked_frames
from ltx_infer.progress import Report
from ltx_infer.sampling.state import Noise, seeded_noise


def quietly(*_: object) -> None:
    """Report nothing."""


class Clip(NamedTuple):
    """A clip in memory."""

    frames: np.ndarray | None  # (F, H, W, 3) float32 in [0, 1]
    sound: Sound | None
    fps: float
    latents: ClipLatents


class Pipeline:
    """A model and settings that its calls share.

    ``Pipeline("dev", model="tiny", audio=True)("a boat", seed=7)`` gives a Clip, and
    ``.write("boat.mp4", "a boat")`` writes it. Keywords are the fields of ``GenerateConfig``; those
    of a call replace those of the pipeline. Raises UserError where the command ends with exit
    code 2.
    """

    def __init__(self, pipeline: str = "distilled", **settings: Any):
        self.settings = {"pipeline": pipeline, **settings}

    def __call__(
        self,
        prompt: str,
        *,
        report: Report = quietly,
        say: Say = quietly,
        noise: Noise | None = None,
        **settings: Any,
    ) -> Clip:
        """Make a clip and keep it in memory; nothing is written."""
        config = self._config(prompt, settings)
        job = prepare_job(config, say=say)
        latents = make_latents(job, report=report, noise=noise or seeded_noise(config.seed))
        sound = job.media.sound if "audio" in job.media.frozen else None
        if sound is None and latents.audio is not None:
            sound = Sound(*decode_audio(job.models, latents.audio))
            check_sound(sound.waveform, stage="sound")
        frames = None
        if latents.video is not None:
            chunks = checked_frames(decode_video(job.models, latents.video), stage="decode")
            frames = np.concatenate(list(chunks))
        return Clip(frames, sound, job.size.fps, latents)

    def write(self, path: str | Path, prompt: str, **settings: Any) -> Path:
        """Make a clip and write it, frame by frame as it is decoded; returns the path."""
        config = self._config(prompt, {**settings, "output_path": Path(path)})
        return generate(config, report=quietly).path

    def _config(self, prompt: str, settings: dict[str, Any]) -> GenerateConfig:
        return build({**self.settings, **settings, "prompt": prompt})
