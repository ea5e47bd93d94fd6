"""Latents to a clip or a sound in a file, at the end of a run and after one that was stopped."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ltx_infer.hub import find_model
from ltx_infer.media.beside import write_beside
from ltx_infer.media.forms import SILENT
from ltx_infer.media.write import check_output, check_wav, write_clip, write_wav
from ltx_infer.pipeline.extras import (
    NOTHING,
    Beside,
    Extras,
    check_extras,
    watched,
    write_extras,
)
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.run import decode_audio, decode_video
from ltx_infer.pipeline.sanity import check_sound, checked_frames
from ltx_infer.pipeline.saved import Saved, load
from ltx_infer.pipeline.temporal import doubled
from ltx_infer.plan.fit import fitting_tiling
from ltx_infer.plan.plan import here
from ltx_infer.progress import Report
from ltx_infer.settings import settings_in
from ltx_models import blas
from ltx_models.checkpoint import open_checkpoint
from ltx_models.device import compute_dtype, machine_memory, prepare
from ltx_models.errors import UserError
from ltx_models.video_vae.frames import TilingName


class Written(NamedTuple):
    """What was made: the file, its number of frames, its sound's rate in Hz or None; what else."""

    path: Path
    num_frames: int
    sampling_rate: int | None
    others: tuple[Beside, ...] = ()
    kind: Literal["clip", "sound", "latents"] = "clip"


def decode(
    models: Models,
    saved: Saved,
    output: Path,
    *,
    report: Report,
    tiling: TilingName = "auto",
    stream: bool = False,
    extras: Extras = NOTHING,
) -> Written:
    """Decode latents and write the clip, or a WAV where there is no picture, and the extras.

    With ``stream`` frames are encoded beside the decoding of later ones, else in turn with it.
    """
    saved = doubled(models, saved, report=report)
    sound = saved.sound
    if sound is None and saved.latents.audio is not None:
        report("sound", 0, 1)
        sound = Sound(*decode_audio(models, saved.latents.audio))
        check_sound(sound.waveform, stage="sound")
        report("sound", 1, 1)
    wanted = partial(write_extras, output, extras, sound=sound, comment=saved.comment)
    video = saved.latents.video
    if video is None:
        assert sound is not None
        write_wav(output, sound.waveform, rate=sound.rate, comment=saved.comment)
        return Written(output, 0, sound.rate, wanted([], seconds=None), "sound")
    total = (video.shape[2] - 1) * models.video_config.scale.time + 1
    frames = _reported(decode_video(models, video, tiling=tiling), total, report)
    frames = checked_frames(frames, stage="decode")
    heard = None if output.suffix.lower() in SILENT else sound

    def write(frames: Iterator[np.ndarray]) -> int:
        return write_clip(
            output,
            frames,
            fps=saved.fps,
            audio=heard and heard.waveform,
            sampling_rate=heard and heard.rate,
            comment=saved.comment,
        )

    with watched(frames, output, extras, num_frames=total, fps=saved.fps) as (frames, shown):
        num_frames = write_beside(write, frames) if stream else write(frames)
    others = wanted(shown, seconds=total / saved.fps)
    return Written(output, num_frames, heard and heard.rate, others)


def decode_only(
    config_model: str | None,
    latents: Path,
    output: Path | None,
    *,
    report: Report,
    tiling: TilingName = "auto",
    stream: bool = False,
    extras: Extras = NOTHING,
) -> Written:
    """Go on where a run stopped after its last stage; ``config_model`` replaces its --model.

    Without ``output`` it is output.mp4, or output.wav where there is no picture. Raises UserError
    for a file that ``save`` did not write or that another model's run left.
    """
    saved = load(latents)
    sound_only = saved.latents.video is None
    output = output or Path("output.wav" if sound_only else "output.mp4")
    (check_wav if sound_only else check_output)(output)
    check_extras(output, extras)
    if sound_only and (extras.save_frames or extras.output_audio is not None):
        raise UserError(f"--decode-only {latents}: is sound alone, which goes to {output}")
    if extras.output_audio is not None and saved.latents.audio is None and saved.sound is None:
        raise UserError(f"--output-audio {extras.output_audio}: {latents} has no sound")
    blas.check()
    prepare()
    files = find_model(config_model or saved.model, variant="distilled")
    run = settings_in(saved.comment)
    allowed = () if run is None else run.asked.get("allow_unknown_config", ())
    models = Models(
        checkpoint=open_checkpoint(files.checkpoint, allow_unknown=allowed),
        gemma=None,
        upscaler=None,
        dtype=compute_dtype(),
    )
    if strange := models.strange_latents(saved.latents.video, saved.latents.audio):
        raise UserError(f"--decode-only {latents}: {strange}; name the run's model with --model")
    if saved.latents.video is not None:
        _, _, *sides = saved.latents.video.shape
        size = (sides[0], sides[1], sides[2])
        on, limit = here(models.dtype), machine_memory()
        tiling = fitting_tiling(models.checkpoint, size, tiling, on, limit=limit)
    return decode(models, saved, output, report=report, tiling=tiling, stream=stream, extras=extras)


def _reported(chunks: Iterator[np.ndarray], total: int, report: Report) -> Iterator[np.ndarray]:
    """Pass on chunks of frames and report each."""
    report("decode", 0, total)
    done = 0
    for chunk in chunks:
        done += len(chunk)
        yield chunk
        report("decode", done, total)
