"""Clips whose latents are made, and lie beside their outputs until they are written."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_infer.config import GenerateConfig
from ltx_infer.decode import Written, decode
from ltx_infer.pipeline.extras import extras_of, write_picture
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.sanity import SanityError
from ltx_infer.pipeline.saved import Saved, latents_path, load, save
from ltx_infer.progress import Report


class Unwritten(NamedTuple):
    """A clip on its way to its file."""

    config: GenerateConfig
    models: Models
    fps: float
    own_sound: Sound | None  # what it was given, where that is the clip's
    comment: str

    @property
    def path(self) -> Path:
        """Where its latents lie until it is written."""
        return latents_path(self.config.output_path)

    def keep(self, latents: ClipLatents) -> None:
        """Write the latents beside the output."""
        checkpoint = self.models.checkpoint.path.absolute()  # a name may stand for another later
        more = self.models.temporal_upscaler
        save(
            self.path,
            Saved(latents, self.fps, str(checkpoint), self.own_sound, self.comment, more),
        )


def decoded(clip: Unwritten, report: Report) -> Written | SanityError:
    """The written clip, whose latents are gone then; or what no clip can be made of."""
    config = clip.config
    if config.skip_vae:
        return _pictured(clip)
    try:
        written = decode(
            clip.models,
            load(clip.path),
            config.output_path,
            report=report,
            tiling=config.tiling,
            stream=config.stream,
            extras=extras_of(config),
        )
    except SanityError as error:
        error.add_note(how_to_decode("the latents", [clip]))
        return error
    clip.path.unlink()
    return written


def _pictured(clip: Unwritten) -> Written:
    """The latents, which stay, and their picture."""
    scale = clip.models.video_config.scale
    saved = load(clip.path)
    picture = write_picture(clip.config.output_path, saved, frames_a_latent=scale.time)
    return Written(clip.path, 0, None, (picture,), "latents")


def how_to_decode(what: str, clips: Sequence[Unwritten]) -> str:
    """A line that says how to go on from latents that were kept."""
    first = clips[0]
    command = shlex.join(["ltx-generate", "--decode-only", str(first.path), *_ways(first.config)])
    others = {1: "", 2: "; and so those of another clip"}
    more = others.get(len(clips), f"; and so those of {len(clips) - 1} more clips")
    return f"To decode {what}: {command}{more}"


def _ways(config: GenerateConfig) -> list[str]:
    """How a run was to decode, in the words of --decode-only."""
    words = ["-o", str(config.output_path)]
    if config.tiling != "auto":
        words += ["--tiling", config.tiling]
    if config.output_audio is not None:
        words += ["--output-audio", str(config.output_audio)]
    switches = {"--stream": config.stream, "--save-frames": config.save_frames}
    switches["--preview"] = config.preview
    return [*words, *(word for word, wanted in switches.items() if wanted)]
