"""Clips and sounds for the tests, with nothing lost: what is written is what is read."""

from pathlib import Path

import av
import numpy as np

RATE = 48000


def still_frames(num_frames: int, *, grey: int = 100, height: int = 40, width: int = 72):
    """Frames (F, H, W, 3) of one grey."""
    return np.full((num_frames, height, width, 3), grey, np.uint8)


def tone(num_samples: int, *, hertz: float = 440, loud: float = 0.5) -> np.ndarray:
    """(2, samples), the right side softer."""
    wave = loud * np.sin(2 * np.pi * hertz * np.arange(num_samples) / RATE)
    return np.stack([wave, wave / 2]).astype(np.float32)


def write(
    path: Path,
    frames: np.ndarray | None = None,
    *,
    fps: int = 24,
    sound: np.ndarray | None = None,
    caption: str | None = "a clip",
) -> Path:
    """A Matroska file of lossless video, of sound as samples, or both; and a caption beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as container:
        video = audio = None
        if frames is not None:
            height, width = frames.shape[1:3]
            video = container.add_stream("ffv1", fps, width=width, height=height)
            video.pix_fmt = "bgr0"
        if sound is not None:
            audio = container.add_stream("pcm_f32le", RATE, layout="stereo")
        for frame in [] if frames is None else frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if sound is not None:
            piece = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound.T).reshape(1, -1), format="flt", layout="stereo"
            )
            piece.sample_rate = RATE
            container.mux(audio.encode(piece))
        for stream in filter(None, (video, audio)):
            container.mux(stream.encode())
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path
