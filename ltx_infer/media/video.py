"""Videos as people have them, to upright RGB frames at a constant rate (spec/model.md part 9)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltx_infer.media.container import open_input, picture_track
from ltx_infer.media.resize import to_pixels
from ltx_infer.media.write import frame_rate
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

BT709, UNSPECIFIED, BT601 = 1, 2, 5  # matrices by H.264's numbers
PQ, HLG = 16, 18  # brightness of HDR
HD_HEIGHT = 720  # from here on a video that does not say it is taken for BT.709, as players do
# A frame that begins a little late still counts: time stamps in milliseconds are off by a part of
# a frame, and half a frame would make every second one of twice the rate a toss-up.
LATE = Fraction(2, 5)
LAST = Fraction(1, 2)  # of a frame: how long the last one is taken to last, as files often say 0


@dataclass(frozen=True)
class VideoInfo:
    """What a video is; ``num_frames`` is at ``fps`` and may be off by one where headers are."""

    num_frames: int
    fps: Fraction
    height: int  # as shown: turned upright, with square pixels
    width: int
    duration: float  # in seconds
    has_sound: bool
    is_hdr: bool  # such a video is read without tone mapping, and looks pale
    unit: Fraction  # seconds in which its file counts the times of frames


class Stamped(NamedTuple):
    """A frame, when it is shown and for how long, in seconds."""

    frame: "VideoFrame"
    start: Fraction
    length: Fraction


class Shown(NamedTuple):
    """A frame (H, W, 3) in bytes, and when its file shows it, in seconds."""

    pixels: np.ndarray
    start: Fraction


def video_info(path: Path) -> VideoInfo:
    """What a video is, from its header and its first frame. Raises UserError if it is none."""
    with open_input(path) as container:
        track = picture_track(container, path)
        rate = _rate(track, path)
        first = next(_stamped(container, track, rate=rate), None)
        if first is None:
            raise UserError(f"{path}: has no frames")
        height, width, _ = _upright(first.frame, aspect=_aspect(track)).shape
        num_frames = track.frames
        if track.duration is not None and track.time_base is not None:
            duration = track.duration * track.time_base
        elif num_frames:
            duration = num_frames / rate
        else:
            duration = Fraction(container.duration or 0, 1_000_000)
        return VideoInfo(
            num_frames=num_frames or max(round(duration * rate), 1),
            fps=rate,
            height=height,
            width=width,
            duration=float(duration),
            has_sound=bool(container.streams.audio),
            is_hdr=first.frame.color_trc in (PQ, HLG),
            unit=track.time_base or 1 / rate,
        )


def stream_frames(
    path: Path, *, fps: float | Fraction | None = None, start: float = 0.0
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) in bytes, one by one, upright, at ``fps`` or else the video's average rate.

    A rate is kept by time: each frame is the last that the video shows by then. ``start`` is in
    seconds after the first frame. Raises UserError for what is no video and for a start past its
    end.
    """
    if start < 0:
        raise UserError(f"a video cannot start at {start} s")
    with open_input(path) as container:
        track = picture_track(container, path)
        own_rate = _rate(track, path)
        rate = frame_rate(fps) if fps is not None else own_rate
        stamped = _stamped(container, track, rate=own_rate)
        frame, pixels = None, None
        for shown in at_constant_rate(stamped, rate=rate, start=Fraction(start)):
            if shown is not frame:
                frame, pixels = shown, _upright(shown, aspect=_aspect(track))
            assert pixels is not None  # the first frame is not None
            yield pixels
    if frame is None:
        raise UserError(f"{path}: has no frames" + (f" from {start} s on" if start else ""))


def every_frame(path: Path) -> Iterator[Shown]:
    """Each frame once, upright, at its own time.

    Raises UserError for what is no video, and for one that changes its size.
    """
    with open_input(path) as container:
        track = picture_track(container, path)
        zero, shape = None, None
        for frame, begin, _ in _stamped(container, track, rate=_rate(track, path)):
            if zero is None:
                zero = (frame.pts or 0) * (frame.time_base or 0)
            pixels = _upright(frame, aspect=_aspect(track))
            if shape not in (None, pixels.shape):
                raise UserError(f"{path}: its frames are not all of one size")
            shape = pixels.shape
            yield Shown(pixels, zero + begin)
    if shape is None:
        raise UserError(f"{path}: has no frames")


def read_video(
    path: Path,
    *,
    fps: float | Fraction | None = None,
    max_frames: int | None = None,
    start: float = 0.0,
) -> tuple[np.ndarray, Fraction]:
    """Frames (F, H, W, 3) in bytes, at most ``max_frames``, and the video's own average rate.

    No more is decoded than is asked for; see ``stream_frames``. Raises UserError likewise, and
    for a video that changes its size.
    """
    with open_input(path) as container:
        own_rate = _rate(picture_track(container, path), path)
    frames = list(islice(stream_frames(path, fps=fps, start=start), max_frames))
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"{path}: its frames are not all of one size")
    return np.stack(frames), own_rate


def video_pixels(
    path: Path,
    *,
    height: int,
    width: int,
    max_frames: int | None = None,
    fps: float | Fraction | None = None,
    start: float = 0.0,
) -> np.ndarray:
    """A video as the VAE takes it: (1, 3, F, height, width), float32 in [-1, 1] (part 9).

    F is at most ``max_frames`` and less where the video ends before. Frames are resized as they
    come, so a large video is never held. Raises UserError as ``stream_frames`` does.
    """
    frames = stream_frames(path, fps=fps, start=start)
    return to_pixels(islice(frames, max_frames), height=height, width=width)


def at_constant_rate(
    stamped: Iterable[Stamped], *, rate: Fraction, start: Fraction
) -> Iterator["VideoFrame"]:
    """The frame shown at ``start``, ``start`` + 1/rate, and so on until the last one's end.

    ``stamped`` is in the order of time; nothing is given if all of it ends before ``start``.
    """
    num_given, last, end = 0, None, Fraction(0)
    for frame, begin, length in stamped:
        due = (begin - start) * rate
        while last is not None and due >= num_given + LATE:
            yield last
            num_given += 1
        last, end = frame, due + max(length * rate, LAST)
    if last is None:
        return
    while end >= num_given + LATE or (num_given == 0 and end > 0):
        yield last
        num_given += 1


def _rate(track: "VideoStream", path: Path) -> Fraction:
    """Frames a second on average."""
    rate = track.average_rate or track.guessed_rate
    if not rate:
        raise UserError(f"{path}: does not say how many frames it has in a second")
    return rate


def _aspect(track: "VideoStream") -> Fraction:
    """The width of a pixel over its height."""
    return track.sample_aspect_ratio or Fraction(1)


def _stamped(
    container: "InputContainer", track: "VideoStream", *, rate: Fraction
) -> Iterator[Stamped]:
    """The decoded frames of a track, the first at 0.

    One without a time, or with an earlier one than that before it, follows that before it.
    """
    track.thread_type = "AUTO"
    zero, earliest, following = None, Fraction(0), Fraction(0)
    for frame in container.decode(track):
        unit = frame.time_base or 1 / rate
        begin = following if frame.pts is None else frame.pts * unit
        if zero is None:
            zero = earliest = begin
        if begin < earliest:
            begin = following
        length = frame.duration * unit if frame.duration else 1 / rate
        earliest, following = begin, begin + length
        yield Stamped(frame, begin - zero, length)


def _upright(frame: "VideoFrame", *, aspect: Fraction) -> np.ndarray:
    """A frame as it is shown, (H, W, 3) RGB in bytes: right colours, square pixels, turned."""
    from av.video.reformatter import Interpolation  # noqa: PLC0415

    matrix = frame.colorspace
    if matrix == UNSPECIFIED:
        matrix = BT709 if frame.height >= HD_HEIGHT else BT601
    return _turned(
        frame.reformat(
            format="rgb24",
            width=max(round(frame.width * aspect), 1),
            src_colorspace=matrix,
            src_color_range=frame.color_range,
            # swscale rounds down, white to 254, unless it is asked for accuracy.
            interpolation=Interpolation.BICUBIC
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT,
        ).to_ndarray(),
        frame,
    )


def _turned(pixels: np.ndarray, frame: "VideoFrame") -> np.ndarray:
    """Pixels (H, W, 3) turned and mirrored by a frame's display matrix, to whole right angles.

    The matrix begins a, b, u, c, d: (x, y) is shown at (a x + c y, b x + d y).
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return pixels
    a, b, _, c, d = (int(n) for n in np.frombuffer(bytes(found), "<i4")[:5])
    if abs(c) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
