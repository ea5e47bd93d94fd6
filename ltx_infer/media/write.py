"""Clips and sounds written to files: H.264, AAC and WAV. PyAV is imported when a clip is written.

A file appears under its name only when it is complete; until then it has a temporary one beside it.
"""

import os
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltx_models.errors import UserError, reason

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoFrame, VideoStream
    from av.container import OutputContainer

ENDINGS = (".mp4", ".mov")
# Else x264's macroblock tree takes code that may give other bits from the same frames in each run.
H264 = {"crf": "19", "preset": "veryfast", "x264-params": "cpu-independent=1"}
AAC_BITS_PER_SECOND = 192_000
WAV_FULL_SCALE = 32767
BT709 = 1  # the number of BT.709 in each colour field of H.264
VIDEO_RANGE = 1  # black at 16 and white at 235, as players expect
NTSC_BASES = (24, 30, 48, 60, 120)  # 23.976 stands for 24000/1001, and so on
MOV_COMMENT_BYTES = 65_535  # the length of a QuickTime text has 16 bits


class Sound(NamedTuple):
    """Stereo samples (2, samples), float32 in [-1, 1], and how many of them make a second."""

    samples: np.ndarray
    rate: int


def check_output(path: Path) -> None:
    """Raise UserError unless a clip can be written there; worth a call before a long run."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: the name of a clip ends in {' or '.join(ENDINGS)}")
    _check_place(path)


def check_wav(path: Path) -> None:
    """Raise UserError unless a WAV can be written there."""
    if path.suffix.lower() != ".wav":
        raise UserError(f"{path}: the name of a sound ends in .wav")
    _check_place(path)


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, no file can be written there")
    part = _part(path)
    try:
        try:
            part.touch()
        finally:  # Ctrl-C may come in between
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: no file can be written there: {reason(error)}") from None


def frame_rate(fps: float | Fraction) -> Fraction:
    """Frames a second as an exact fraction; 23.976 and 29.97 become 24000/1001 and 30000/1001.

    Raises UserError unless the rate is positive and finite.
    """
    if not 0 < fps < float("inf"):
        raise UserError(f"a clip cannot have {fps} frames a second")
    for base in NTSC_BASES:
        ntsc = Fraction(base * 1000, 1001)
        if abs(fps - ntsc) < 0.005:
            return ntsc
    return Fraction(fps).limit_denominator(1001)


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float | Fraction,
    audio: np.ndarray | None = None,
    sampling_rate: int | None = None,
    comment: str | None = None,
) -> int:
    """Write a clip and return its number of frames (spec 10.3); a failure leaves no file.

    ``frames`` gives chunks (F, H, W, 3) of any F, uint8 or float in [0, 1]; a chunk is encoded
    before the next is asked for. ``audio`` is (samples,), (1, samples) or (2, samples), float in
    [-1, 1]; it is cut, or filled up with silence, to the picture's length. ``comment`` goes into
    the container. Raises UserError for what cannot be encoded or written; what ``frames`` raises
    passes through.
    """
    check_output(path)
    rate = frame_rate(fps)
    sound = None if audio is None else _stereo(audio, sampling_rate)
    pictures = (picture for chunk in frames for picture in _in_bytes(chunk))
    first = next(pictures, None)
    if first is None:
        raise UserError(f"{path}: there is no frame to write")
    num_frames = 0
    with _output(path, comment=comment) as container:
        in_yuv = _converter()
        video = _add_video(container, first.shape, rate=rate)
        track = _add_audio(container, sound) if sound else None
        for num_frames, picture in enumerate(chain([first], pictures), start=1):
            if picture.shape != first.shape:
                raise ValueError(f"frames of {first.shape} and of {picture.shape} in one clip")
            with _told(path):
                container.mux(video.encode(in_yuv(picture, num_frames - 1)))
                if track and sound:
                    piece = _sound_frame(sound, num_frames - 1, fps=rate)
                    container.mux(track.encode(piece))
        with _told(path):
            container.mux(video.encode())
            if track:
                container.mux(track.encode())
    return num_frames


def write_wav(path: Path, waveform: np.ndarray, *, rate: int) -> None:
    """Write (samples,) or (1 or 2, samples), float in [-1, 1], as a stereo WAV of 16 bits (10.3).

    Raises UserError for a place that takes no file and for values that are not finite; a failure
    leaves no file.
    """
    check_wav(path)
    pulses = np.rint(_two_channels(waveform) * WAV_FULL_SCALE).astype("<i2")
    with _replacing(path) as part:
        try:
            with wave.open(str(part), "wb") as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(pulses.T.tobytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` whose file takes its place if the block ends well, or else goes."""
    part = _part(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """The temporary name of a file that this process writes."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def _output(path: Path, *, comment: str | None) -> Iterator["OutputContainer"]:
    """A container that becomes ``path`` if the block ends well, and else leaves nothing."""
    import av  # noqa: PLC0415

    form = path.suffix.lower().removeprefix(".")
    if form == "mov" and comment is not None and len(comment.encode()) > MOV_COMMENT_BYTES:
        raise UserError(f"{path}: its comment is too long for a .mov; take a .mp4")
    with _replacing(path) as part:
        with _told(path):
            container = av.open(str(part), "w", form, options={"movflags": "+faststart"})
        if comment is not None:
            container.metadata["comment"] = comment
        try:
            yield container
        finally:
            with _told(path):
                container.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """FFmpeg's errors as a UserError that names the file."""
    from av.error import FFmpegError  # noqa: PLC0415

    try:
        yield
    except FFmpegError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _in_bytes(chunk: np.ndarray) -> np.ndarray:
    """A chunk of frames (F, H, W, 3) as uint8."""
    if chunk.ndim != 4 or chunk.shape[-1] != 3:
        raise ValueError(f"frames are (F, H, W, 3), not {chunk.shape}")
    if chunk.dtype == np.uint8:
        return chunk
    if not np.issubdtype(chunk.dtype, np.floating):
        raise ValueError(f"frames are uint8 or float, not {chunk.dtype}")
    if not np.isfinite(chunk).all():
        raise UserError("the frames hold values that are not finite")
    return np.rint(np.clip(chunk, 0, 1).astype(np.float32) * 255).astype(np.uint8)


def _stereo(audio: np.ndarray, rate: int | None) -> Sound:
    import av  # noqa: PLC0415

    rates = av.Codec("aac", "w").audio_rates or []
    if rate is None or rate not in rates:
        raise UserError(f"AAC has no sampling rate of {rate}; it has {', '.join(map(str, rates))}")
    return Sound(_two_channels(audio), rate)


def _two_channels(audio: np.ndarray) -> np.ndarray:
    """Sound (samples,) or (1 or 2, samples) as (2, samples), float32 within [-1, 1]."""
    channels = np.atleast_2d(audio)
    if channels.ndim != 2 or len(channels) > 2 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"sound is float (1 or 2, samples), not {audio.dtype} {audio.shape}")
    if not np.isfinite(channels).all():
        raise UserError("the sound holds values that are not finite")
    samples = np.clip(channels, -1, 1).astype(np.float32)
    return np.broadcast_to(samples, (2, samples.shape[1]))


def _add_video(
    container: "OutputContainer", shape: tuple[int, ...], *, rate: Fraction
) -> "VideoStream":
    """An H.264 track for frames of a shape (H, W, 3), which must be even in H and W."""
    height, width, _ = shape
    if height % 2 or width % 2:
        raise UserError(f"H.264 needs an even width and height, not {width}x{height}")
    stream = container.add_stream("libx264", rate, options=H264, width=width, height=height)
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.time_base = 1 / rate
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = VIDEO_RANGE
    return stream


def _add_audio(container: "OutputContainer", sound: Sound) -> "AudioStream":
    return container.add_stream("aac", sound.rate, bit_rate=AAC_BITS_PER_SECOND, layout="stereo")


def _converter() -> Callable[[np.ndarray, int], "VideoFrame"]:
    """From RGB (H, W, 3) and a frame's number to a picture in the colours of BT.709.

    swscale takes BT.601 unless it is told, and rounds down unless it is asked for accuracy. One
    for all frames of a clip, as its tables take longer to make than a small frame to convert.
    """
    from av import VideoFrame  # noqa: PLC0415
    from av.video.reformatter import (  # noqa: PLC0415
        Colorspace,
        Interpolation,
        VideoReformatter,
    )

    accurate = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
    reformatter = VideoReformatter()

    def convert(picture: np.ndarray, index: int) -> VideoFrame:
        frame = reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=VIDEO_RANGE,
            interpolation=accurate,
        )
        frame.pts = index
        return frame

    return convert


def _sound_frame(sound: Sound, index: int, *, fps: Fraction) -> "AudioFrame":
    """The sound that belongs to frame ``index`` of the picture, silent past the end."""
    from av import AudioFrame  # noqa: PLC0415

    start, stop = (round(i * sound.rate / fps) for i in (index, index + 1))
    samples = sound.samples[:, start:stop]
    silence = stop - start - samples.shape[1]
    frame = AudioFrame.from_ndarray(
        np.pad(samples, ((0, 0), (0, silence))), format="fltp", layout="stereo"
    )
    frame.sample_rate = sound.rate
    frame.pts, frame.time_base = start, Fraction(1, sound.rate)
    return frame
