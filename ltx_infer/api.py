"""``Pipeline``: everything that ltx-generate does, from Python and with the same names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltx_infer.config import GenerateConfig, build
from ltx_infer.generate import enhance_each, generate, generate_each, make_latents
from ltx_infer.job import Say, prepare_job
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.run import ClipLatents, decode_audio, decode_video
from ltx_infer.pipeline.sanity import SanityError, check_sound, checked_frames
from ltx_infer.pipeline.saved import Saved
from ltx_infer.pipeline.temporal import doubled
from ltx_infer.progress import Report
from ltx_infer.sampling.state import Noise, seeded_noise
from ltx_infer.settings import repeated
from ltx_infer.several import Several, several
from ltx_models.errors import UserError

WRITTEN = ("output_audio", "save_frames", "preview", "skip_vae")


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

    @classmethod
    def from_clip(cls, clip: str | Path, *, say: Say = quietly, **settings: Any) -> "Pipeline":
        """The settings of a clip, as --from takes them, its prompt and seed too.

        ``settings`` replace them. ``say`` is told which of its files are not what they were.
        """
        fields, _ = repeated(Path(clip), settings, say=say)
        return cls(**fields)

    def __call__(
        self,
        prompt: str | None = None,
        *,
        report: Report = quietly,
        say: Say = quietly,
        noise: Noise | None = None,
        **settings: Any,
    ) -> Clip:
        """Make a clip and keep it in memory; nothing is written."""
        config = self._config(prompt, settings)
        if written := config.given(*WRITTEN):
            raise UserError(f"{', '.join(written)}: for Pipeline.write, which writes files")
        job = prepare_job(config, say=say)
        (config,) = enhance_each(job, [config], report=report, say=say)
        job = job._replace(config=config)
        latents = make_latents(job, report=report, noise=noise or seeded_noise(config.seed))
        more = job.models.temporal_upscaler
        saved = Saved(latents, job.size.fps, config.model, temporal_upscaler=more)
        latents, fps, *_ = doubled(job.models, saved, report=report)
        sound = job.media.sound if "audio" in job.media.frozen else None
        if sound is None and latents.audio is not None:
            sound = Sound(*decode_audio(job.models, latents.audio))
            check_sound(sound.waveform, stage="sound")
        frames = None
        if latents.video is not None:
            chunks = checked_frames(
                decode_video(job.models, latents.video, tiling=job.chosen.choices.tiling),
                stage="decode",
            )
            frames = np.concatenate(list(chunks))
        return Clip(frames, sound, fps, latents)

    def write(self, path: str | Path, prompt: str | None = None, **settings: Any) -> Path:
        """Make a clip and write it, frame by frame as it is decoded; returns the path."""
        config = self._config(prompt, {**settings, "output_path": Path(path)})
        return generate(config, report=quietly).path

    def write_each(
        self, path: str | Path, prompts: Sequence[str], *, count: int = 1, **settings: Any
    ) -> list[Path]:
        """Make clips with one load of each network; returns their paths.

        One a prompt and seed: ``count`` seeds from the given one on. ``path`` gets the number of
        the prompt, and the seed, in its name. What cannot be a clip is raised once all others are
        written.
        """
        given = {**self.settings, **settings, "output_path": Path(path)}
        configs = several(given, Several(list(enumerate(prompts, 1)), num_seeds=count))
        made = [outcome.made for outcome in generate_each(configs, report=quietly)]
        for each in made:
            if isinstance(each, SanityError):
                raise each
        return [each.path for each in made if not isinstance(each, SanityError)]

    def _config(self, prompt: str | None, settings: dict[str, Any]) -> GenerateConfig:
        given = {**self.settings, **settings}
        if prompt is not None:
            if given.get("prompt") != prompt:
                given.pop("enhanced_prompt", None)
            given["prompt"] = prompt
        return build(given)
