"""What a worker process reads of one file: frames, sound or a mask, as the encoders take them.

Nothing here imports MLX: a worker is there at once, and leaves the memory to the encoder.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from ltx_infer.media.images import read_image
from ltx_infer.media.masks import read_mask, token_weights
from ltx_infer.media.resize import MIDDLE, Place, to_pixels
from ltx_infer.media.sound import NoSoundError, read_sound
from ltx_infer.media.video import stream_frames, video_info
from ltx_infer.media.write import Sound
from ltx_models.errors import UserError, reason

SILENCE_DBFS = -60.0
TOLERANCE = 0.02  # seconds that a sound may end early without a word

What = Literal["frames", "sound", "frame mask", "sound mask"]


class Job(NamedTuple):
    """A file, and what is wanted of it: its beginning, ``num_frames`` at ``fps``."""

    what: What
    source: Path
    num_frames: int
    fps: Fraction
    height: int = 0  # of pictures
    width: int = 0
    place: Place = MIDDLE
    is_still: bool = False
    every: int = 1  # after frame 0, one of so many frames is taken
    grid: tuple[int, int, int] = (0, 0, 0)  # of latents, for masks
    beside: float = 0.0  # seconds of the clip that a reference belongs to
    known_hash: str = ""  # of the source, at which nothing is to be read


class Decoded(NamedTuple):
    """What became of a job; the array itself, float32, is in the worker's file."""

    source_sha256: str = ""
    shape: tuple[int, ...] = ()  # empty if there is none: a fault, or a source that is known
    rate: int = 0  # samples of a sound in a second
    notes: tuple[str, ...] = ()
    fault: str = ""
    is_mute: bool = False  # a sound track with nothing in it
    num_frames: int | None = None  # where they are too few


def decode(job: Job, out: BinaryIO) -> Decoded:
    """Read a file and write what is wanted of it to ``out``; what hinders it is in the answer."""
    try:
        digest = file_hash(job.source)
        if digest == job.known_hash:
            return Decoded(digest)
        return READERS[job.what](job, out)._replace(source_sha256=digest)
    except NoSoundError as error:
        return Decoded(fault=str(error), is_mute=True)
    except UserError as error:
        return Decoded(fault=" ".join(str(error).split("\n")))
    except OSError as error:
        place = error.filename or "the temporary folder, which TMPDIR names"
        return Decoded(fault=f"{place}: {reason(error)}")
    except MemoryError as error:
        return Decoded(fault=f"{job.source}: the memory is too small for it: {error}")


def file_hash(path: Path) -> str:
    """SHA-256 in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frames(job: Job, out: BinaryIO) -> Decoded:
    """(F, 3, height, width) in [-1, 1], written one by one: a clip is never held here."""
    frames = [read_image(job.source)] if job.is_still else stream_frames(job.source, fps=job.fps)
    num_read = num_kept = 0
    for i, frame in enumerate(islice(frames, job.num_frames)):
        num_read = i + 1
        if i and (i - 1) % job.every:
            continue
        pixels = to_pixels([frame], height=job.height, width=job.width, place=job.place)
        out.write(np.ascontiguousarray(pixels).data)
        num_kept += 1
    if num_read < job.num_frames:
        return Decoded(fault="too short", num_frames=num_read)
    return Decoded(shape=(num_kept, 3, job.height, job.width), notes=_other_length(job))


def _other_length(job: Job) -> tuple[str, ...]:
    """What there is to say of a reference that does not last as long as its clip."""
    if not job.beside or job.is_still:
        return ()
    seconds = video_info(job.source).duration
    if abs(seconds - job.beside) * job.fps <= 1.5:
        return ()
    return (f"its reference lasts {seconds:.2f} s, the clip {job.beside:.2f} s",)


def _sound(job: Job, out: BinaryIO) -> Decoded:
    """(2, samples) in [-1, 1], exactly as long as the frames."""
    sound = _read_sound(job)
    seconds = float(job.num_frames / job.fps)
    missing = round(seconds * sound.rate) - sound.samples.shape[1]
    notes = []
    if missing > TOLERANCE * sound.rate:
        lasting = sound.samples.shape[1] / sound.rate
        notes.append(f"its sound lasts {lasting:.2f} of {seconds:.2f} s, silence follows")
    samples = np.pad(sound.samples, ((0, 0), (0, max(missing, 0))))
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if 10 * np.log10(max(power, 1e-20)) < SILENCE_DBFS:
        notes.append("its sound is silence")
    out.write(np.ascontiguousarray(samples).data)
    return Decoded(shape=samples.shape, rate=sound.rate, notes=tuple(notes))


def _read_sound(job: Job) -> Sound:
    return read_sound(job.source, duration=float(job.num_frames / job.fps))


def _frame_mask(job: Job, out: BinaryIO) -> Decoded:
    """(F', H', W'): the mean over the pixels of each latent, frame 0 and then by groups."""
    mask = read_mask(
        job.source,
        num_frames=job.num_frames,
        height=job.height,
        width=job.width,
        fps=job.fps,
        place=job.place,
    )
    out.write(np.ascontiguousarray(token_weights(mask, grid=job.grid)).data)
    return Decoded(shape=job.grid)


def _sound_mask(job: Job, out: BinaryIO) -> Decoded:
    """(samples,): how loud the mask is, on the mean of its channels; 1 is full scale."""
    sound, seconds = _read_sound(job), float(job.num_frames / job.fps)
    lasting = sound.samples.shape[1] / sound.rate
    if lasting < seconds - TOLERANCE:
        raise UserError(f"{job.source}: the mask lasts {lasting:.2f} s, the clip {seconds:.2f} s")
    loudness = np.abs(sound.samples).mean(axis=0)
    out.write(loudness.data)
    return Decoded(shape=loudness.shape, rate=sound.rate)


READERS: dict[What, Callable[[Job, BinaryIO], Decoded]] = {
    "frames": _frames,
    "sound": _sound,
    "frame mask": _frame_mask,
    "sound mask": _sound_mask,
}
