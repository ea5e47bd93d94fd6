"""Pictures, clips and sound as data in the page."""

import base64
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.write import Sound
from ltx_train.report.media import (
    WAVE_HEIGHT,
    WAVE_WIDTH,
    clip,
    fitted,
    listen,
    picture,
    still,
    strip,
    waveform,
)
from tests.train.report.wellformed import read

FRAMES = (
    np.random.default_rng(0).integers(0, 256, (9, 1, 1, 3), np.uint8).repeat(48, 1).repeat(64, 2)
)
WAVE = np.sin(np.arange(24000) / 20).astype(np.float32)


def data(uri: str | None, kind: str) -> BytesIO:
    assert uri is not None
    assert uri.startswith(f"data:{kind};base64,")
    return BytesIO(base64.b64decode(uri.split(",")[1], validate=True))


def test_a_picture_comes_back_nearly_the_same():
    (given,) = read(picture(still(FRAMES[0]), alt='a "frame"')).all("img")
    assert given["alt"] == 'a "frame"'
    assert (given["width"], given["height"]) == ("64", "48")
    back = np.asarray(Image.open(data(given["src"], "image/jpeg")))
    assert np.abs(back.astype(int) - FRAMES[0]).max() < 12


def test_a_strip_holds_its_frames_in_order():
    (given,) = read(strip(list(FRAMES[:3]), alt="", gap=8)).all("img")
    back = np.asarray(Image.open(data(given["src"], "image/jpeg"))).astype(int)
    assert back.shape == (48, 3 * 64 + 2 * 8, 3)
    for index in range(3):
        assert np.abs(back[24, index * 72 + 32] - FRAMES[index, 0, 0]).max() < 12


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((90, 160), (112, 200)),
        ((160, 90), (120, 68)),
        ((3, 500), (2, 200)),
        ((60, 100), (120, 200)),
    ],
)
def test_frames_are_fitted_into_a_box_with_even_sides(shape, size):
    frame = np.zeros((*shape, 3), np.uint8)
    assert fitted(frame, width=200, height=120).shape[:2] == size


def test_a_clip_plays_with_its_sound_and_shows_its_first_frame():
    (given,) = read(clip(FRAMES, fps=24, sound=Sound(np.stack([WAVE, WAVE]), 48000))).all("video")
    assert {"controls", "loop", "muted", "playsinline"} <= given.keys()
    with av.open(data(given["src"], "video/mp4")) as container:
        assert len(list(container.decode(video=0))) == len(FRAMES)
        assert container.streams.audio
    first = np.asarray(Image.open(data(given["poster"], "image/jpeg"))).astype(int)
    assert np.abs(first - FRAMES[0]).max() < 12


def test_a_sound_as_a_player():
    (given,) = read(listen(b"RIFF")).all("audio")
    assert data(given["src"], "audio/wav").read() == b"RIFF"


def test_a_waveform_has_a_lane_a_channel_and_its_peak():
    found = read(waveform(Sound(np.stack([WAVE / 2, 0 * WAVE]), 48000), name="<clip>"))
    loud, silent = (given["d"] or "" for given in found.all("path", class_="wave"))
    y = [float(point.split(",")[1]) for point in loud.strip("MZ").split("L")]
    assert min(y) == pytest.approx(1, abs=0.1)
    assert max(y) == pytest.approx(WAVE_HEIGHT - 1, abs=0.1)
    assert len(y) == 2 * WAVE_WIDTH
    assert f",{1.5 * WAVE_HEIGHT - 0.3:.1f}" in silent  # still a line
    assert "0.5 s, 48 kHz, peak -6.0 dB" in found.text
    assert found.all("svg")[0]["aria-label"] == "waveform of <clip>"


@pytest.mark.parametrize(
    ("num_samples", "said"),
    [(0, "clip: no samples"), (1, "silent"), (48000, "1 s, 48 kHz, silent")],
)
def test_silence_and_nothing_are_said(num_samples, said):
    sound = Sound(np.zeros((2, num_samples), np.float32), 48000)
    assert said in read(waveform(sound, name="clip")).text
