"""Sound as people have it, to stereo samples; PyAV is imported when a file is read."""

from collections.abc import Iterator
from fractions import Fraction
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ltx_infer.media.container import find_picture, open_input, sound_track
from ltx_infer.media.write import Sound
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoStream
    from av.container import InputContainer

RATE = 48000  # for sound whose own rate AAC lacks
HALF = sqrt(0.5)  # as an amplitude, half the power

# What each channel gives to left and right, after Rec. ITU-R BS.775, which leaves out the LFE: it
# is played 10 dB above the others and small speakers cannot hold it.
FOLD = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (HALF, HALF),
    "LFE": (0.0, 0.0),
    "SL": (HALF, 0.0),
    "SR": (0.0, HALF),
    "BL": (HALF, 0.0),
    "BR": (0.0, HALF),
    "BC": (0.5, 0.5),
}
# A plain WAV does not name its channels; these are in the order of that format.
UNNAMED = {
    6: ["FL", "FR", "FC", "LFE", "BL", "BR"],
    8: ["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"],
}


class NoSoundError(UserError):
    """A sound track that has no samples, or none from where they are wanted."""


def read_sound(path: Path, *, start: float = 0.0, duration: float | None = None) -> Sound:
    """Sound from ``start``, at most ``duration`` seconds: stereo (2, samples), float32, its rate.

    Time 0 is the first frame where the file has a picture too, else the first sample. Mono is
    heard on both sides; more channels are folded to two, and if they then pass full scale all is
    made softer. Raises UserError for a file without sound, a start past its end, and channels
    whose place is unknown.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise UserError(f"sound cannot start at {start} s and last {duration} s")
    with open_input(path) as container:
        track = sound_track(container, path)
        rate = _kept_rate(track)
        pieces, wanted = [], None if duration is None else round(duration * rate)
        skip, num_samples = _samples_before(container, track, start=start, rate=rate), 0
        if skip < 0:  # the sound begins after the picture
            pieces, num_samples, skip = [np.zeros((2, -skip), np.float32)], -skip, 0
        for piece in _folded(container, track, rate=rate, path=path):
            skipped = min(skip, piece.shape[1])
            skip -= skipped
            pieces.append(piece[:, skipped:])
            num_samples += piece.shape[1] - skipped
            if wanted is not None and num_samples >= wanted:
                break
    samples = np.concatenate([np.zeros((2, 0), np.float32), *pieces], axis=1)[:, :wanted]
    if not samples.size:
        raise NoSoundError(f"{path}: has no sound" + (f" from {start} s on" if start else ""))
    if len(track.layout.channels) > 2:
        samples /= max(np.abs(samples).max(), 1)
    return Sound(samples, rate)


def _kept_rate(track: "AudioStream") -> int:
    """The track's rate, or another where AAC has no such rate: the sound is to be muxed later."""
    import av  # noqa: PLC0415

    rates = av.Codec("aac", "w").audio_rates or []
    return track.rate if track.rate in rates else RATE


def _samples_before(
    container: "InputContainer", track: "AudioStream", *, start: float, rate: int
) -> int:
    """How many samples of the track come before ``start``; negative if it begins later."""
    picture = find_picture(container)
    late = Fraction(0)
    if picture is not None:
        late = _start(track) - _start(picture)
    return round((Fraction(start) - late) * rate)


def _start(track: "AudioStream | VideoStream") -> Fraction:
    """When a track begins, in seconds."""
    if track.start_time is None or track.time_base is None:
        return Fraction(0)
    return track.start_time * track.time_base


def _folded(
    container: "InputContainer", track: "AudioStream", *, rate: int, path: Path
) -> Iterator[np.ndarray]:
    """Stereo pieces (2, samples), float32."""
    import av  # noqa: PLC0415

    resampler = av.AudioResampler(format="flt", rate=rate)
    form = None
    for frame in container.decode(track):
        form = form or (frame.layout.name, frame.sample_rate)
        if form != (frame.layout.name, frame.sample_rate):
            raise UserError(f"{path}: its sound changes its channels or rate on the way")
        for piece in resampler.resample(frame):
            yield _stereo(piece, path)
    if form is not None:
        for piece in resampler.resample(None):
            yield _stereo(piece, path)


def _stereo(frame: "AudioFrame", path: Path) -> np.ndarray:
    """A piece of sound (channels, samples) folded to (2, samples)."""
    # Planes of eight channels crash PyAV 18.1 (to_ndarray reads past them), one plane does not.
    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).T
    if len(samples) <= 2:
        return np.broadcast_to(samples, (2, samples.shape[1]))
    names = [channel.name for channel in frame.layout.channels]
    if set(names) == {"NONE"}:
        names = UNNAMED.get(len(names), names)
    if strange := [name for name in names if name not in FOLD]:
        raise UserError(
            f"{path}: cannot fold its channels {', '.join(names)} to stereo: "
            f"the place of {', '.join(dict.fromkeys(strange))} is unknown"
        )
    return np.array([FOLD[name] for name in names], np.float32).T @ samples
