"""What goes from a clip into another one beside the picture: its sounds, chapters and words.

Sound is copied packet by packet where the new container takes its codec, else encoded anew with
its channels as they are. PyAV is imported when a file is opened.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ltx_infer.media.container import open_input
from ltx_infer.media.write import Carry, Due
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from av import AudioStream, Packet
    from av.container import InputContainer, OutputContainer

RATE = 48000  # for sound whose own rate the new codec lacks
BITS_PER_CHANNEL = 96_000  # a second
# Written by whatever wrote the source, and untrue of another file; the comment is ``write_clip``'s.
NOT_CARRIED = {"major_brand", "minor_version", "compatible_brands", "encoder", "comment"}


# As FFmpeg takes channels that a file does not name, such as a plain WAV's.
UNNAMED = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
OPUS = dict(enumerate(("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"), start=1))


class SoundForm(NamedTuple):
    """The codecs that players expect in a container, and the one for all other sound.

    ``layouts`` are all that this one takes, by their number of channels; none for any.
    """

    copied: frozenset[str]
    codec: str
    layouts: Mapping[int, str] | None = None


FORMS = {
    ".mp4": SoundForm(frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}), "aac"),
    ".mov": SoundForm(
        frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"}), "aac"
    ),
    ".webm": SoundForm(frozenset({"opus", "vorbis"}), "libopus", OPUS),
}
Lane = Callable[["Packet"], Iterable["Packet"]]  # a packet as the new container takes it


@contextmanager
def carried(path: Path, *, zero: Fraction, ending: str) -> Iterator[Carry]:
    """What ``write_clip`` takes as ``carry``, for as long as the file ``path`` is open.

    ``zero`` is the time of the file, in seconds, that is 0 in the clip; ``ending`` the clip's. What
    cannot be read, and sound that cannot be encoded, is a UserError when it is come to.
    """
    with open_input(path) as source:

        def carry(container: "OutputContainer") -> Due:
            words = source.metadata.items()
            container.metadata.update({k: v for k, v in words if k.lower() not in NOT_CARRIED})
            _add_chapters(container, source, zero=zero)
            return _due(_packets(source, container, zero=zero, form=FORMS.get(ending), path=path))

        yield carry


def carry_notes(path: Path, *, ending: str) -> list[str]:
    """A line for each thing of a file that is not carried over as it is."""
    form = FORMS.get(ending)
    with open_input(path) as source:
        tracks = source.streams.audio
        notes = [f"{path}: its subtitles are left out"] if source.streams.subtitles else []
        if form is None:
            notes += [f"{path}: a {ending} has no sound, so it is left out"] if tracks else []
            return notes
        return notes + [
            f"{path}: its sound ({_codec(track)}, {track.layout.name}) becomes {form.codec}, as "
            f"players expect in a {ending}"
            for track in tracks
            if _codec(track) not in form.copied
        ]


def first_sound(path: Path) -> Fraction | None:
    """When the earliest sound of a file begins, in its seconds; None where there is none."""
    with open_input(path) as source:
        return min((_start(track) for track in source.streams.audio), default=None)


def _start(track: "AudioStream") -> Fraction:
    if track.start_time is None or track.time_base is None:
        return Fraction(0)
    return track.start_time * track.time_base


def _codec(track: "AudioStream") -> str:
    return track.codec_context.codec.canonical_name


def _due(packets: Iterator["Packet"]) -> Due:
    """The packets in turn, those that come before a time at each call."""
    next_one = next(packets, None)

    def due(until: Fraction | None) -> list["Packet"]:
        nonlocal next_one
        found = []
        while next_one is not None and (until is None or _time(next_one) <= until):
            found.append(next_one)
            next_one = next(packets, None)
        return found

    return due


def _time(packet: "Packet") -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base


def _packets(
    source: "InputContainer",
    container: "OutputContainer",
    *,
    zero: Fraction,
    form: SoundForm | None,
    path: Path,
) -> Iterator["Packet"]:
    """Every packet of sound for the new container, whose tracks are added at once."""
    tracks = source.streams.audio if form is not None else ()
    lanes: dict[int, Lane] = {}
    for track in tracks:
        assert form is not None
        if _codec(track) in form.copied:
            lanes[track.index] = _copied(container, track, zero=zero)
        else:
            lanes[track.index] = _encoded(container, track, form, zero=zero)
    return _passed(source, lanes, path) if lanes else iter(())


def _passed(source: "InputContainer", lanes: dict[int, Lane], path: Path) -> Iterator["Packet"]:
    from av.error import FFmpegError  # noqa: PLC0415

    try:
        for packet in source.demux([source.streams[index] for index in lanes]):
            yield from lanes[packet.stream.index](packet)
    except FFmpegError as error:
        raise UserError(f"{path}: its sound cannot be read: {error.strerror}") from error


def _copied(container: "OutputContainer", track: "AudioStream", *, zero: Fraction) -> Lane:
    stream = container.add_stream_from_template(track)
    stream.metadata.update(track.metadata)

    def copy(packet: "Packet") -> Iterator["Packet"]:
        if packet.dts is None:  # the mark of the track's end
            return
        shift = round(zero / (packet.time_base or 1))
        packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        packet.stream = stream
        yield packet

    return copy


def _encoded(
    container: "OutputContainer", track: "AudioStream", form: SoundForm, *, zero: Fraction
) -> Lane:
    import av  # noqa: PLC0415

    rates = av.Codec(form.codec, "w").audio_rates or [track.rate]
    rate = track.rate if track.rate in rates else RATE
    count = track.layout.nb_channels
    if _has_unnamed(track):
        track.codec_context.layout = UNNAMED[count - 1]
    layout = form.layouts[count] if form.layouts else track.layout.name
    bits = BITS_PER_CHANNEL * count
    stream = container.add_stream(form.codec, rate, layout=layout, bit_rate=bits)
    assert isinstance(stream, av.AudioStream)
    stream.metadata.update(track.metadata)
    resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
    unit = Fraction(1, rate)

    def encode(packet: "Packet") -> Iterator["Packet"]:
        at_end = packet.dts is None
        frames: list = [*packet.decode(), *([None] if at_end else [])]
        for frame in frames:
            for piece in resampler.resample(frame):
                if piece.pts is not None:
                    piece.pts = round((piece.pts * (piece.time_base or unit) - zero) / unit)
                    piece.time_base = unit
                yield from stream.encode(piece)
        if at_end:
            yield from stream.encode(None)

    return encode


def _has_unnamed(track: "AudioStream") -> bool:
    """Whether a file does not say where its channels are, and there is a usual way."""
    names = {channel.name for channel in track.layout.channels}
    return names == {"NONE"} and track.layout.nb_channels <= len(UNNAMED)


def _add_chapters(
    container: "OutputContainer", source: "InputContainer", *, zero: Fraction
) -> None:
    chapters = source.chapters()
    for chapter in chapters:
        shift = round(zero / (chapter["time_base"] or 1))
        chapter["start"] = max(chapter["start"] - shift, 0)
        chapter["end"] = max(chapter["end"] - shift, 0)
    if chapters:
        container.set_chapters(chapters)
