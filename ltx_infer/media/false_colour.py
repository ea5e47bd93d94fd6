"""Latents as pictures without a VAE: their three strongest directions as red, green and blue."""

import numpy as np

from ltx_infer.media.preview import LONGEST_SIDE, Shown, contact_sheet, frame_numbers

CONTRAST = 2.5  # standard deviations from grey to full colour
SOUND_HEIGHT = 96  # pixels of the strip of a sound


def false_colour(latents: np.ndarray) -> np.ndarray:
    """Latents (C, ...) as colours (..., 3) in bytes; equal latents have equal colours.

    The directions are the principal components over the C channels, each turned so that its
    largest part is positive, as their signs say nothing.
    """
    num_channels = len(latents)
    points = latents.reshape(num_channels, -1).astype(np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(points @ points.T / points.shape[1])
    directions = directions[:, ::-1][:, :3].T
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    values = np.zeros((3, points.shape[1]))
    values[: len(directions)] = directions * np.sign(largest) @ points
    spread = np.maximum(values.std(axis=1, keepdims=True), 1e-9)
    colours = 127.5 * (1 + (values / spread / CONTRAST).clip(-1, 1))
    return colours.round().astype(np.uint8).T.reshape(*latents.shape[1:], 3)


def latents_sheet(
    video: np.ndarray | None, audio: np.ndarray | None, *, fps: float, frames_a_latent: int
) -> np.ndarray:
    """A picture (H, W, 3) in bytes of a clip's latents (C, F, H, W), of sound (C, T, M), or both.

    Latent frames at regular times, enlarged; below them the sound, from low to high upwards.
    """
    shown = [] if video is None else _frames(video, fps=fps, frames_a_latent=frames_a_latent)
    if audio is None:
        return contact_sheet(shown)
    strip = false_colour(audio).swapaxes(0, 1)[::-1]  # (M, T, 3)
    return contact_sheet(
        shown,
        lambda width: _enlarged(strip, height=SOUND_HEIGHT, width=width),
        label=f"sound, {len(audio[0])} latents",
    )


def _frames(video: np.ndarray, *, fps: float, frames_a_latent: int) -> list[Shown]:
    colours = false_colour(video)  # (F, H, W, 3)
    height, width = colours.shape[1:3]
    scale = max(LONGEST_SIDE // max(height, width), 1)
    shown = []
    for number in frame_numbers(len(colours)):
        first = max(frames_a_latent * (number - 1) + 1, 0)  # the first latent is of one frame
        large = _enlarged(colours[number], height=height * scale, width=width * scale)
        shown.append(Shown(large, first / fps))
    return shown


def _enlarged(picture: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """A picture (h, w, 3) at another size, its pixels as squares."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    return np.ascontiguousarray(picture[rows][:, columns])
