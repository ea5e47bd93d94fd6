"""Videos and sounds of unusual kinds, made where a test needs them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "grey": (90,) * 3}


def quarters(*, height: int = 64, width: int = 96) -> np.ndarray:
    """A picture (H, W, 3): red and green above, blue and grey below."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = COLOURS["red"]
    picture[: height // 2, width // 2 :] = COLOURS["green"]
    picture[height // 2 :, : width // 2] = COLOURS["blue"]
    picture[height // 2 :, width // 2 :] = COLOURS["grey"]
    return picture


def corners(picture: np.ndarray) -> tuple[str, ...]:
    """The names of the colours in the four quarters, row by row."""
    height, width, _ = picture.shape
    return tuple(
        min(COLOURS, key=lambda name: np.abs(picture[y, x].astype(int) - COLOURS[name]).max())
        for y in (height // 4, 3 * height // 4)
        for x in (width // 4, 3 * width // 4)
    )


def counting(num_frames: int) -> np.ndarray:
    """Frames (F, 32, 32, 3) of one grey each, from which ``count`` tells their number."""
    levels = 10 * np.arange(num_frames, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, 32, 32, 3))


def count(frames: np.ndarray) -> list[int]:
    return np.rint(frames.mean(axis=(1, 2, 3)) / 10).astype(int).tolist()


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    times: Sequence[int] | None = None,
    unit: Fraction = Fraction(1, 24),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    turn: tuple[int, bool, bool] | None = None,
    pixel_aspect: int = 1,
    colours: tuple[int, int] | None = None,
) -> Path:
    """Frames (F, H, W, 3) shown at ``times`` (else one a unit), nearly without loss.

    ``turn`` is degrees against the clock and two mirrorings for the display matrix; ``colours``
    are the numbers of matrix and range that the frames are converted to and the file names.
    """
    options = {"libx264": {"crf": "1", "preset": "ultrafast"}}.get(codec, {})
    matrix, value_range = colours or (None, None)
    with av.open(str(path), "w") as container:
        height, width = frames.shape[1:3]
        stream = container.add_stream(codec, 1 / unit, options=options, width=width, height=height)
        stream.pix_fmt, stream.codec_context.time_base, stream.time_base = pix_fmt, unit, unit
        stream.sample_aspect_ratio = Fraction(pixel_aspect)
        if colours:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        if turn:
            stream.set_display_rotation(*turn)
        for pixels, time in zip(frames, times or range(len(frames)), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels)).reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range=value_range
            )
            frame.pts, frame.time_base = time, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(
    path: Path,
    samples: np.ndarray,
    *,
    codec: str = "pcm_s16le",
    layout: str = "stereo",
    rate: int = 48000,
) -> Path:
    """Samples (channels, N), float in [-1, 1]."""
    options = {"strict": "experimental"} if codec == "vorbis" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate, layout=layout, options=options)
        if codec in ("aac", "libmp3lame", "libopus", "vorbis"):
            stream.bit_rate = 96_000 * len(samples)
        packed = samples.astype(np.float32).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def song_with_cover(path: Path) -> Path:
    """An MP3 with the picture of its cover."""
    picture, plain = path.with_suffix(".png"), path.with_suffix(".plain.mp3")
    Image.fromarray(quarters()).save(picture)
    write_sound(plain, np.stack([tone(0.3)] * 2), codec="libmp3lame")
    with (
        av.open(str(plain)) as song,
        av.open(str(picture)) as cover,
        av.open(str(path), "w") as out,
    ):
        track = out.add_stream_from_template(song.streams.audio[0])
        image = out.add_stream_from_template(cover.streams.video[0])
        image.disposition = Disposition.attached_pic
        for source, stream in ((cover, image), (song, track)):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return path


def tone(seconds: float, *, hertz: float = 440, rate: int = 48000) -> np.ndarray:
    """A sine of half the full scale (samples,)."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def sweep(seconds: float, *, rate: int = 48000) -> np.ndarray:
    """A tone that rises from 200 to 4000 Hz (samples,): it fits itself in one place only."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (200 * time + 1900 * time**2 / seconds)
    return 0.5 * np.sin(phase) * np.hanning(len(time))


def lag(got: np.ndarray, want: np.ndarray) -> int:
    """By how many samples ``got`` (samples,) comes after ``want``."""
    size = len(got) + len(want)
    spectrum = np.fft.rfft(got, size) * np.fft.rfft(want, size).conj()
    shift = int(np.fft.irfft(spectrum, size).argmax())
    return shift if shift < len(got) else shift - size


def correlation(got: np.ndarray, want: np.ndarray) -> tuple[float, int]:
    """Of two waveforms (2, N) when they are shifted to fit, and by how many samples."""
    shift = lag(got.mean(axis=0), want.mean(axis=0))
    got, want = got[:, max(shift, 0) :], want[:, max(-shift, 0) :]
    length = min(got.shape[1], want.shape[1])
    return float(np.corrcoef(got[:, :length].ravel(), want[:, :length].ravel())[0, 1]), shift
