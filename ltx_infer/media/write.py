"""Clips and sounds written to files, in the form of their ending; PyAV is imported for clips.

A file appears under its name only when it is complete; until then it has a temporary one beside it.
"""

import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ltx_infer.media.forms import ENDINGS, FORMS, Form
from ltx_infer.media.gif import write_gif
from ltx_infer.media.place import check_place, replacing, told
from ltx_infer.media.riff import append_comment
from ltx_infer.media.stills import Still, write_still
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
    from av.container import OutputContainer

WAV_FULL_SCALE = 32767
BT709 = 1  # the number of BT.709 in each colour field
VIDEO_RANGE = 1  # black at 16 and white at 235, as players expect
NTSC_BASES = (24, 30, 48, 60, 120)  # 23.976 stands for 24000/1001, and so on
MOV_COMMENT_BYTES = 65_535  # the length of a QuickTime text has 16 bits


class Sound(NamedTuple):
    """Stereo samples (2, samples), float32 in [-1, 1], and how many of them make a second."""

    samples: np.ndarray
    rate: int


class Timing(NamedTuple):
    """When each frame is shown: rising numbers of ``unit`` seconds, none of them negative."""

    starts: Iterator[int]
    unit: Fraction


Due = Callable[[Fraction | None], list["Packet"]]  # what is to be shown up to a time; None: all
Carry = Callable[["OutputContainer"], Due]  # puts tracks into a container, and gives their packets


def _nothing(_container: "OutputContainer") -> Due:
    return lambda _until: []


def check_output(path: Path) -> None:
    """Raise UserError unless a clip can be written there; worth a call before a long run."""
    if path.suffix.lower() not in ENDINGS:
        forms = f"{', '.join(ENDINGS[:-1])} or, of one frame, {ENDINGS[-1]}"
        raise UserError(f"{path}: the name of a clip ends in {forms}")
    check_place(path)


def check_wav(path: Path) -> None:
    """Raise UserError unless a WAV can be written there."""
    if path.suffix.lower() != ".wav":
        raise UserError(f"{path}: the name of a sound ends in .wav")
    check_place(path)


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
    timing: Timing | None = None,
    carry: Carry = _nothing,
) -> int:
    """Write a clip and return its number of frames (spec 10.3); a failure leaves no file.

    ``frames`` gives chunks (F, H, W, 3) of any F, uint8 or float in [0, 1]; a chunk is encoded
    before the next is asked for. ``audio`` is (samples,), (1, samples) or (2, samples), float in
    [-1, 1]; it is cut, or filled up with silence, to the picture's length. ``comment`` goes into
    the container. ``timing`` replaces the times that follow from ``fps``, which is the average
    then; ``carry`` adds tracks of another file. Raises UserError for what cannot be encoded or
    written; what ``frames`` raises passes through.
    """
    check_output(path)
    rate = frame_rate(fps)
    form = FORMS.get(path.suffix.lower())
    sound = None if audio is None or form is None else _stereo(audio, sampling_rate, form)
    pictures = _of_one_size(picture for chunk in frames for picture in in_bytes(chunk))
    first = next(pictures, None)
    if first is None:
        raise UserError(f"{path}: there is no frame to write")
    pictures = chain([first], pictures)
    starts, unit = timing or Timing(count(), 1 / rate)
    if form is None:
        return _write_silent(path, ((p, next(starts) * unit) for p in pictures), comment)
    num_frames = 0
    with _output(path, form, comment=comment) as container:
        in_yuv = _converter()
        video = _add_video(container, form, first.shape, rate=rate, unit=unit)
        track = _add_audio(container, form, sound) if sound else None
        due = carry(container)
        for num_frames, picture in enumerate(pictures, start=1):
            start = next(starts)
            with told(path):
                container.mux(video.encode(in_yuv(picture, start)))
                container.mux(due(start * unit))
                if track and sound:
                    piece = _sound_frame(sound, num_frames - 1, fps=rate)
                    container.mux(track.encode(piece))
        with told(path):
            container.mux(video.encode())
            container.mux(due(None))
            if track:
                container.mux(track.encode())
    return num_frames


def _of_one_size(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for picture in pictures:
        shape = shape or picture.shape
        if picture.shape != shape:
            raise ValueError(f"frames of {shape} and of {picture.shape} in one clip")
        yield picture


def _write_silent(
    path: Path, pictures: Iterator[tuple[np.ndarray, Fraction]], comment: str | None
) -> int:
    """A GIF, or the only frame as a PNG."""
    if path.suffix.lower() == ".gif":
        return write_gif(path, pictures, comment=comment)
    pixels, _ = next(pictures)
    if next(pictures, None) is not None:
        raise UserError(f"{path}: a .png has one frame; a clip's name ends in {ENDINGS[0]}")
    write_still(path, Still(pixels, comment=comment))
    return 1


def write_wav(path: Path, waveform: np.ndarray, *, rate: int, comment: str | None = None) -> None:
    """Write (samples,) or (1 or 2, samples), float in [-1, 1], as a stereo WAV of 16 bits (10.3).

    Raises UserError for a place that takes no file and for values that are not finite; a failure
    leaves no file.
    """
    check_wav(path)
    pulses = np.rint(_two_channels(waveform) * WAV_FULL_SCALE).astype("<i2")
    with replacing(path) as part:
        try:
            with wave.open(str(part), "wb") as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(pulses.T.tobytes())
            if comment is not None:
                append_comment(part, comment)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _output(path: Path, form: Form, *, comment: str | None) -> Iterator["OutputContainer"]:
    """A container that becomes ``path`` if the block ends well, and else leaves nothing."""
    import av  # noqa: PLC0415

    too_long = comment is not None and len(comment.encode()) > MOV_COMMENT_BYTES
    if form.container == "mov" and too_long:
        raise UserError(f"{path}: its comment is too long for a .mov; take a .mp4")
    with replacing(path) as part:
        with told(path):
            container = av.open(str(part), "w", form.container, options=form.options)
        if comment is not None:
            container.metadata["comment"] = comment
        try:
            yield container
        finally:
            with told(path):
                container.close()


def in_bytes(chunk: np.ndarray) -> np.ndarray:
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


def _stereo(audio: np.ndarray, rate: int | None, form: Form) -> Sound:
    """Sound for a form. Raises UserError for a rate that it neither has nor brings to its own."""
    rates = _rates(form)
    if rate is None or (rate not in rates and form.resampled is None):
        codec = form.sound.upper()
        raise UserError(
            f"{codec} has no sampling rate of {rate}; it has {', '.join(map(str, rates))}"
        )
    return Sound(_two_channels(audio), rate)


def _rates(form: Form) -> list[int]:
    import av  # noqa: PLC0415

    return av.Codec(form.sound, "w").audio_rates or []


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
    container: "OutputContainer",
    form: Form,
    shape: tuple[int, ...],
    *,
    rate: Fraction,
    unit: Fraction,
) -> "VideoStream":
    """A track for frames of a shape (H, W, 3), which must be even in H and W.

    ``rate`` is of frames a second, ``unit`` the time in which theirs are counted.
    """
    height, width, _ = shape
    if height % 2 or width % 2:
        raise UserError(f"a .{form.container} needs an even width and height, not {width}x{height}")
    more: dict[str, Any] = {"width": width, "height": height, "options": dict(form.codec_options)}
    stream = cast("VideoStream", container.add_stream(form.codec, rate, **more))
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.time_base = unit
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = VIDEO_RANGE
    return stream


def _add_audio(container: "OutputContainer", form: Form, sound: Sound) -> "AudioStream":
    rate = sound.rate if sound.rate in _rates(form) else form.resampled
    more: dict[str, Any] = {"bit_rate": form.sound_bits, "layout": "stereo"}
    return cast("AudioStream", container.add_stream(form.sound, rate, **more))


def _converter() -> Callable[[np.ndarray, int], "VideoFrame"]:
    """From RGB (H, W, 3) and a frame's time to a picture in the colours of BT.709.

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

    def convert(picture: np.ndarray, start: int) -> VideoFrame:
        frame = reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=VIDEO_RANGE,
            interpolation=accurate,
        )
        frame.pts = start
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
