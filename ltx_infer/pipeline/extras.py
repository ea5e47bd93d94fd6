"""What is written beside a clip where it is asked for: its frames, its sound, a preview."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.config import GenerateConfig
from ltx_infer.media.false_colour import latents_sheet
from ltx_infer.media.forms import SILENT
from ltx_infer.media.preview import Shown, kept_for_sheet, with_sound
from ltx_infer.media.stills import Still, write_still
from ltx_infer.media.write import check_wav, in_bytes, write_wav
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.placeholder import NOTE
from ltx_infer.pipeline.saved import Saved
from ltx_models.errors import UserError

FRAME = "frame_{:05}.png"  # counted from 1


class Extras(NamedTuple):
    """What is wanted beside a clip."""

    preview: bool = False
    save_frames: bool = False
    output_audio: Path | None = None


NOTHING = Extras()


class Beside(NamedTuple):
    """A file, or a folder of frames, that was written beside a clip."""

    path: Path
    kind: Literal["preview", "frames", "sound", "picture"]


def extras_of(config: GenerateConfig) -> Extras:
    """What a request wants."""
    return Extras(config.preview, config.save_frames, config.output_audio)


def preview_path(output: Path) -> Path:
    """Where the contact sheet of a clip is."""
    return output.with_name(f"{output.stem}.preview.png")


def frames_folder(output: Path) -> Path:
    """Where the frames of a clip are."""
    return output.with_name(f"{output.stem}_frames")


def picture_path(output: Path) -> Path:
    """Where the picture of a clip's latents is."""
    return output.with_name(f"{output.stem}.latents.png")


def check_extras(output: Path, extras: Extras) -> None:
    """Raise UserError unless all of it can be written where the clip can."""
    if extras.output_audio is not None:
        check_wav(extras.output_audio)
        if extras.output_audio.absolute() == output.absolute():
            raise UserError(f"--output-audio {extras.output_audio}: that is the output itself")
    folder = frames_folder(output)
    if extras.save_frames and folder.exists() and not folder.is_dir():
        raise UserError(f"--save-frames: {folder} is no folder")
    if extras.preview and preview_path(output).is_dir():
        raise UserError(f"--preview: {preview_path(output)} is a folder")


def output_notes(config: GenerateConfig, *, sound: bool) -> list[str]:
    """What is to be said of a request's outputs; ``sound`` is whether it makes or keeps one.

    Raises UserError where a sound is to be written and there is none.
    """
    notes = [NOTE] if config.placeholder else []
    output = config.output_path
    if config.output_audio is not None and not sound:
        raise UserError(f"--output-audio {config.output_audio}: for sound, which --audio makes")
    if sound and output.suffix.lower() in SILENT and not config.skip_vae:
        kept = f"it is in {config.output_audio}" if config.output_audio else "--output-audio has it"
        notes.append(f"{output}: a {output.suffix.lower()} has no sound; {kept}")
    return notes


@contextmanager
def watched(
    chunks: Iterator[np.ndarray], output: Path, extras: Extras, *, num_frames: int, fps: float
) -> Iterator[tuple[Iterator[np.ndarray], list[Shown]]]:
    """The chunks (F, H, W, 3) of a clip, to be written in the block, and what a preview shows.

    The frames go into their folder as they pass; it takes the place of an older one when the block
    ends well, and else there is none of it.
    """
    shown: list[Shown] = []
    if extras.preview:
        chunks = kept_for_sheet(chunks, shown, num_frames=num_frames, fps=fps)
    if not extras.save_frames:
        yield chunks, shown
        return
    with _replacing_frames(frames_folder(output)) as folder:
        yield _saved(chunks, folder), shown


def write_extras(
    output: Path,
    extras: Extras,
    shown: list[Shown],
    sound: Sound | None,
    *,
    seconds: float | None,
    comment: str | None,
) -> tuple[Beside, ...]:
    """Write the sound and the preview of a clip that is written; returns what is beside it.

    ``seconds`` is how long the picture is, None where there is none. Raises UserError for a sound
    that is wanted and is not there.
    """
    found = [Beside(frames_folder(output), "frames")] if extras.save_frames else []
    if extras.output_audio is not None:
        if sound is None:
            raise UserError(f"--output-audio {extras.output_audio}: the clip has no sound")
        write_wav(extras.output_audio, sound.waveform, rate=sound.rate, comment=comment)
        found.append(Beside(extras.output_audio, "sound"))
    if extras.preview:
        samples, rate = (None, None) if sound is None else sound
        sheet = with_sound(shown, samples, rate=rate, seconds=seconds)
        write_still(preview_path(output), Still(sheet))
        found.append(Beside(preview_path(output), "preview"))
    return tuple(found)


def write_picture(output: Path, saved: Saved, *, frames_a_latent: int) -> Beside:
    """Write a picture of latents in false colours, for which no VAE is needed."""
    video, audio = (
        None if latents is None else np.array(latents[0].astype(mx.float32))
        for latents in saved.latents
    )
    sheet = latents_sheet(video, audio, fps=saved.fps, frames_a_latent=frames_a_latent)
    write_still(picture_path(output), Still(sheet))
    return Beside(picture_path(output), "picture")


@contextmanager
def _replacing_frames(folder: Path) -> Iterator[Path]:
    """A folder whose files become those of ``folder`` if the block ends well, or else go.

    Frames of an older clip go then; other files stay.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    part.mkdir()
    try:
        yield part
        folder.mkdir(exist_ok=True)
        for old in folder.glob(FRAME.replace("{:05}", "*")):
            old.unlink()
        for frame in sorted(part.iterdir()):
            frame.rename(folder / frame.name)
    finally:
        shutil.rmtree(part)


def _saved(chunks: Iterable[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    number = 0
    for chunk in chunks:
        for pixels in in_bytes(chunk):
            number += 1
            write_still(folder / FRAME.format(number), Still(pixels))
        yield chunk
