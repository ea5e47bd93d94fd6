"""Sounds, chapters and words of a clip in another one."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ltx_infer.media.carry import carried, carry_notes, first_sound
from ltx_infer.media.write import Timing, write_clip
from ltx_models.errors import UserError
from tests.infer.media.odd_media import tone

UNIT, RATE = Fraction(1, 100), 48000
MEDIA = Path(__file__).parents[2] / "media"
LAYOUTS = {"stereo": 2, "5.1": 6, "7.1": 8}


def write_film(
    path: Path,
    *,
    codec: str = "aac",
    layout: str = "stereo",
    sound_at: float = 0.0,
    picture_at: float = 0.0,
    seconds: float = 0.5,
) -> Path:
    """A film whose channels are tones of 400, 500, ... Hz, with chapters, a title, a comment."""
    count = LAYOUTS[layout]
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "a film", "comment": "of ours"})
        unit = Fraction(1, 1000)
        chapters = [(1, 0, 200, "one"), (2, 200, 450, "two")]
        container.set_chapters(
            [
                {"id": n, "start": a, "end": b, "time_base": unit, "metadata": {"title": title}}
                for n, a, b, title in chapters
            ]
        )
        video = container.add_stream("mpeg4", 25, width=32, height=32)
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, RATE, layout=layout)
        audio.metadata["language"] = "fin"
        for number in range(round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * number, np.uint8))
            frame.pts = number + round(picture_at * 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        tones = np.stack([tone(seconds, hertz=400 + 100 * n) for n in range(count)])
        packed = tones.astype(np.float32).T.reshape(1, -1)
        given = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        given.sample_rate, given.pts = RATE, round(sound_at * RATE)
        given.time_base = Fraction(1, RATE)
        resampler = av.AudioResampler(format=audio.format, layout=layout, rate=RATE)
        for piece in [*resampler.resample(given), *resampler.resample(None)]:
            container.mux(audio.encode(piece))
        container.mux(audio.encode())
    return path


def carry_over(source: Path, output: Path, *, zero: Fraction = Fraction(0)) -> Path:
    frames = (np.zeros((1, 32, 32, 3), np.uint8) for _ in range(12))
    starts = iter(range(0, 48, 4))
    with carried(source, zero=zero, ending=output.suffix) as carry:
        timing = Timing(starts, UNIT)
        write_clip(output, frames, fps=25, timing=timing, carry=carry, comment="new")
    return output


def sound_of(path: Path) -> tuple[np.ndarray, Fraction, str]:
    """Samples (channels, N), when they begin in seconds, and their channels' layout."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        # Through one plane, as planes of eight channels crash PyAV's to_ndarray.
        resampler = av.AudioResampler(format="flt")
        pieces = [piece for f in [*frames, None] for piece in resampler.resample(f)]
        count = frames[0].layout.nb_channels
        samples = np.concatenate([p.to_ndarray().reshape(-1, count).T for p in pieces], axis=1)
        return samples, frames[0].pts * frames[0].time_base, frames[0].layout.name


def pitches(samples: np.ndarray) -> list[int]:
    """The loudest frequency of each channel to the nearest 100 Hz."""
    found = np.abs(np.fft.rfft(samples)).argmax(axis=1) * RATE / samples.shape[1]
    return np.rint(found / 100).astype(int).tolist()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


# Copied


@pytest.mark.parametrize("codec", ["aac", "libmp3lame"])
@pytest.mark.parametrize("sound_at", [0.0, 0.1])
def test_copied_sound_is_the_same_at_the_same_time(tmp_path, output, codec, sound_at):
    source = write_film(tmp_path / "film.mp4", codec=codec, sound_at=sound_at)
    want, begin, _ = sound_of(source)
    got, got_begin, _ = sound_of(carry_over(source, output))
    assert np.array_equal(got, want)
    assert got_begin == begin
    assert (begin > 0) == (sound_at > 0)
    assert carry_notes(source, ending=".mp4") == []


def test_real_sound_of_six_channels_is_the_same(output):
    source = MEDIA / "bigbuckbunny.mp4"
    want, _, layout = sound_of(source)
    got, _, got_layout = sound_of(carry_over(source, output))
    assert np.array_equal(got, want)
    assert layout == got_layout == "5.1"


def test_what_is_zero_moves_the_sound(tmp_path, output):
    source = write_film(tmp_path / "film.mp4", sound_at=0.2, picture_at=0.12)
    want, begin, _ = sound_of(source)
    zero = Fraction(12, 100)
    got, got_begin, _ = sound_of(carry_over(source, output, zero=zero))
    assert np.array_equal(got, want)
    assert abs(begin - zero - got_begin) < Fraction(1, 1000)  # of the file's whole milliseconds


def test_opus_is_copied_into_webm(tmp_path):
    source = write_film(tmp_path / "film.mkv", codec="libopus")
    out = carry_over(source, tmp_path / "out.webm")
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
    assert carry_notes(source, ending=".webm") == []


# Encoded anew


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_channel_stays_where_it_was(tmp_path, output, layout):
    source = write_film(tmp_path / "film.mkv", codec="pcm_s16le", layout=layout)
    samples, begin, got = sound_of(carry_over(source, output))
    assert got == layout
    low = 3 if layout != "stereo" else None  # AAC keeps of the fourth what is below 120 Hz
    heard = [n for n in range(LAYOUTS[layout]) if n != low]
    assert [pitches(samples)[n] for n in heard] == [n + 4 for n in heard]
    assert begin == 0
    (note,) = carry_notes(source, ending=".mp4")
    assert note.startswith(f"{source}: its sound (pcm_s16le, ")
    assert note.endswith("becomes aac, as players expect in a .mp4")


def test_webm_gets_opus(tmp_path):
    source = write_film(tmp_path / "film.mp4", layout="5.1")
    samples, _, layout = sound_of(carry_over(source, tmp_path / "out.webm"))
    assert layout == "5.1"
    assert pitches(samples)[:3] == [4, 5, 6]


def test_late_sound_is_late(tmp_path, output):
    source = write_film(tmp_path / "film.mkv", codec="pcm_s16le", sound_at=0.3)
    _, begin, _ = sound_of(carry_over(source, output))
    assert float(begin) == pytest.approx(0.3, abs=0.03)


# The rest


def test_chapters_words_and_languages_come_with_it(tmp_path, output):
    source = write_film(tmp_path / "film.mp4")
    carry_over(source, output, zero=Fraction(1, 20))
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "a film"
        assert container.metadata["comment"] == "new"
        found = [(c["metadata"]["title"], c["start"], c["end"]) for c in container.chapters()]
        assert found == [("one", 0, 150), ("two", 150, 400)]
        assert container.streams.audio[0].metadata["language"] == "fin"


def test_every_sound_comes_with_it(tmp_path, output):
    first = write_film(tmp_path / "first.mp4", layout="5.1")
    second = write_film(tmp_path / "second.mp4", codec="libmp3lame")
    with (
        av.open(str(first)) as one,
        av.open(str(second)) as two,
        av.open(str(tmp_path / "both.mkv"), "w") as both,
    ):
        of_one, of_two = [one.streams.video[0], one.streams.audio[0]], [two.streams.audio[0]]
        tracks = {track: both.add_stream_from_template(track) for track in [*of_one, *of_two]}
        for packet in [*one.demux(of_one), *two.demux(of_two)]:
            if packet.dts is not None:
                packet.stream = tracks[packet.stream]
                both.mux(packet)
    carry_over(tmp_path / "both.mkv", output)
    with av.open(str(output)) as container:
        tracks = container.streams.audio
        assert [track.layout.name for track in tracks] == ["5.1", "stereo"]
        assert [track.codec_context.name for track in tracks] == ["aac", "mp3float"]


def test_damaged_sound_is_told(tmp_path):
    source = write_film(tmp_path / "film.mkv", codec="flac")
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    source.write_bytes(data)
    out = tmp_path / "out.mov"
    with pytest.raises(UserError, match=r"film\.mkv: its sound cannot be read: "):
        carry_over(source, out)
    assert not out.exists()


def test_a_gif_has_no_sound_and_that_is_said(tmp_path):
    source = write_film(tmp_path / "film.mp4")
    assert carry_notes(source, ending=".gif") == [
        f"{source}: a .gif has no sound, so it is left out"
    ]
    assert carry_over(source, tmp_path / "out.gif").stat().st_size


def test_when_the_first_sound_begins(tmp_path):
    assert first_sound(write_film(tmp_path / "film.mp4")) == 0
    silent = carry_over(write_film(tmp_path / "f.mp4"), tmp_path / "silent.gif")
    assert first_sound(silent) is None
