"""Checks during a run: a clip that is grey, frozen or mute is an error, not an exit code of 0.

Numbers of the specification of MLX, part 1.4.
"""

from collections.abc import Iterable, Iterator

import mlx.core as mx
import numpy as np

from ltx_models.errors import UserError

LATENT_STD = (0.2, 3.0)  # of latents in the VAE's normalised scale, noise included
FRAME_STD = 2 / 255  # of a picture in [0, 1]
SAMPLED = 4  # every so many rows and columns tell whether a picture is flat, in a tenth of the time
SILENCE_DBFS = -60.0
STOPPED = (
    "On a Mac the system can stop long work on the GPU: try fewer --num-frames, a smaller --height "
    "and --width, or with the display asleep."
)


class SanityError(UserError):
    """A result that no prompt explains; the message names the stage, what was seen, what helps."""


def check_latents(latents: mx.array, *, stage: str) -> None:
    """Raise SanityError unless latents of any shape are finite and of a plausible spread."""
    std = float(mx.std(latents))
    low, high = LATENT_STD
    if low <= std <= high:
        return
    if bad := int(mx.sum(~mx.isfinite(latents))):
        seen = f"{bad} of {latents.size} latent values are not finite"
    else:
        seen = f"the latents' standard deviation is {std:.3g}, usual is {low} to {high}"
    raise SanityError(
        f"{stage}: {seen}.\nTry a lower --cfg-scale, no --lora, or more bits with -q."
    )


def checked_frames(chunks: Iterable[np.ndarray], *, stage: str) -> Iterator[np.ndarray]:
    """Pass on chunks of frames (F, H, W, 3), uint8 or float in [0, 1], and judge the clip.

    Raises SanityError before a chunk with values that are not finite; and at the end if most
    frames are of one colour (a fade to black has some), or if all are the same. Chunks are passed
    on before that is known, so the reader must take back what it wrote, as ``write_clip`` does.
    """
    first, num_frames, num_flat, moved = None, 0, 0, False
    for chunk in chunks:
        check_finite(chunk, stage=stage, start=num_frames)
        for frame in chunk:
            first = frame.copy() if first is None else first
            num_frames += 1
            num_flat += _is_flat(frame)
            moved = moved or not np.array_equal(frame, first)
        yield chunk
    if 2 * num_flat > num_frames:
        raise SanityError(
            f"{stage}: {num_flat} of {num_frames} frames are of one colour.\n{STOPPED}"
        )
    if num_frames > 1 and not moved:
        raise SanityError(
            f"{stage}: all {num_frames} frames are the same.\n"
            "Try another --seed, or fewer --num-frames."
        )


def check_sound(waveform: np.ndarray, *, stage: str) -> None:
    """Raise SanityError unless a waveform in [-1, 1], of any shape, is finite and audible."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
    if not np.isfinite(power):
        raise SanityError(
            f"{stage}: the sound is not finite.\nTry no --lora, or more bits with -q."
        )
    level = 10 * np.log10(max(power, 1e-20))
    if level <= SILENCE_DBFS:
        raise SanityError(
            f"{stage}: the sound is silence ({level:.0f} dBFS).\n"
            "Try another --seed; if silence is what the prompt asks for, leave out --audio."
        )


def check_finite(chunk: np.ndarray, *, stage: str, start: int) -> None:
    """Raise SanityError for a chunk of frames, the first of them number ``start``, with NaN."""
    if chunk.dtype == np.uint8:
        return
    wrong = np.flatnonzero(~np.isfinite(chunk).all(axis=(1, 2, 3)))
    if wrong.size:
        raise SanityError(
            f"{stage}: frame {start + wrong[0]} has values that are not finite.\n{STOPPED}"
        )


def _is_flat(frame: np.ndarray) -> bool:
    """Whether a frame (H, W, 3) is one colour all over."""
    pixels = frame[::SAMPLED, ::SAMPLED].reshape(-1, 3)
    std = pixels.std(axis=0, dtype=np.float32).max()
    return bool(std <= FRAME_STD * (255 if frame.dtype == np.uint8 else 1))
