"""A real film with sound of six channels, larger and with twice the frames."""

import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

COMMAND = Path(sys.executable).with_name("ltx-upscale")
SECOND = Path(__file__).parents[2] / "media" / "bigbuckbunny.mp4"
SECONDS = 5


class Film(NamedTuple):
    """What a player finds: size and times of frames, sound (channels, N) and its layout."""

    height: int
    width: int
    times: list[Fraction]
    duration: Fraction  # of the picture
    sound: np.ndarray
    layout: str


def watch(path: Path) -> Film:
    with av.open(str(path)) as container:
        track = container.streams.video[0]
        times = [frame.pts * frame.time_base for frame in container.decode(track)]
        assert track.duration is not None
        size, duration = (track.height, track.width), track.duration * track.time_base
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return Film(*size, times, duration, sound, frames[0].layout.name)


def upscale(source: Path, output: Path, *words: str) -> Film:
    command = [COMMAND, "--model", "tiny", "--input", source, "--output", output, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return watch(output)


def check_same_sound(made: Film, source: Film) -> None:
    assert made.layout == source.layout == "5.1"
    assert np.array_equal(made.sound, source.sound)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second of film, again and again: five seconds of the same packets."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as whole:
        tracks = []
        for number in range(SECONDS):
            with av.open(str(SECOND)) as part:
                tracks = tracks or [whole.add_stream_from_template(s) for s in part.streams]
                for packet in part.demux():
                    track = tracks[packet.stream.index]
                    if packet.dts is None:
                        continue
                    assert packet.time_base is not None
                    # 47 packets of sound are a little more than a second.
                    length = Fraction(47 * 1024, 48000) if track.type == "audio" else 1
                    shift = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = track
                    whole.mux(packet)
    return path


def test_a_second_of_film(tiny, tmp_path):
    made, source = upscale(SECOND, tmp_path / "out.mp4", "--scale", "1.5"), watch(SECOND)
    assert (made.height, made.width) == (270, 480)
    assert made.times == source.times
    check_same_sound(made, source)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "height", "width"), [("2", 360, 640), ("1.5", 270, 480)])
def test_five_seconds_larger(tiny, film, tmp_path, scale, height, width):
    made, source = upscale(film, tmp_path / "out.mp4", "--scale", scale), watch(film)
    assert len(source.times) == 125
    assert (made.height, made.width) == (height, width)
    assert (made.times, made.duration) == (source.times, source.duration)
    check_same_sound(made, source)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--scale", "1.5"), ("--refine", "--prompt", "a rabbit")])
def test_five_seconds_smoother(tiny, film, tmp_path, more):
    made, source = upscale(film, tmp_path / "out.mp4", "--temporal", *more), watch(film)
    assert (made.height, made.width) == ((270, 480) if "--scale" in more else (180, 320))
    assert made.times[::2] == source.times
    assert made.times[1::2] == [time + Fraction(1, 50) for time in source.times[:-1]]
    assert abs(made.duration - source.duration) <= Fraction(1, 25)
    check_same_sound(made, source)


@pytest.mark.slow
def test_a_picture(tiny, tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "in.jpg")
    for name in ("out.png", "out.jpg", "out.webp"):
        words = ["--model", "tiny", "-i", tmp_path / "in.jpg", "-o", tmp_path / name]
        subprocess.run([COMMAND, *words], check=True, capture_output=True)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (512, 512)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_stopped_on_the_way_it_leaves_no_clip(tiny, film, tmp_path, by):
    words = ["--model", "tiny", "-i", film, "-o", tmp_path / "out.mp4"]
    pipe = subprocess.PIPE
    with subprocess.Popen([COMMAND, *words], stdout=pipe, stderr=pipe, text=True) as run:
        while run.poll() is None and not any(f.stat().st_size for f in tmp_path.glob(".*")):
            time.sleep(0.01)
        run.send_signal(by)
        _, said = run.communicate()
    assert run.returncode == (130 if by == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "out.mp4").exists()
    if by == signal.SIGINT:
        assert said.endswith("ltx-upscale: stopped\n")
        assert not list(tmp_path.iterdir())
