"""What a worker makes of a job, in this process."""

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.resize import to_pixels
from ltx_train.reading.decode import Decoded, Job, decode
from tests.train.reading.media import RATE, still_frames, tone, write

FPS = Fraction(24)
SIZE = {"height": 32, "width": 64}


def read(job: Job, folder: Path) -> tuple[Decoded, np.ndarray]:
    path = folder / "array"
    with path.open("w+b") as out:
        decoded = decode(job, out)
    array = np.fromfile(path, np.float32)
    return decoded, array.reshape(decoded.shape) if decoded.shape else array


def brightness(frames: np.ndarray) -> list[int]:
    return np.rint((frames.mean(axis=(1, 2, 3)) + 1) * 127.5).astype(int).tolist()


@pytest.fixture
def ramp(tmp_path) -> Path:
    """A clip of 25 frames, the first of grey 0, each other 10 lighter."""
    greys = np.arange(25, dtype=np.uint8)[:, None, None, None] * 10
    return write(tmp_path / "ramp.mkv", still_frames(25, grey=0) + greys)


def test_frames_and_the_hash_of_their_source(ramp, tmp_path):
    decoded, frames = read(Job("frames", ramp, 17, FPS, **SIZE), tmp_path)
    assert frames.shape == (17, 3, 32, 64)
    assert brightness(frames) == list(range(0, 170, 10))
    assert frames[0].max() == -1
    assert decoded.source_sha256 == hashlib.sha256(ramp.read_bytes()).hexdigest()
    assert decoded.notes == ()


def test_a_source_that_is_known_is_not_read(ramp, tmp_path):
    digest = hashlib.sha256(ramp.read_bytes()).hexdigest()
    job = Job("frames", ramp, 17, FPS, **SIZE, known_hash=digest)
    assert read(job, tmp_path)[0] == Decoded(digest)
    assert read(job._replace(known_hash="another"), tmp_path)[0].shape


def test_a_rate_is_kept_by_time(ramp, tmp_path):
    _, frames = read(Job("frames", ramp, 9, Fraction(12), **SIZE), tmp_path)
    assert brightness(frames) == list(range(0, 180, 20))


def test_references_keep_frame_0_and_then_one_of_so_many(ramp, tmp_path):
    _, frames = read(Job("frames", ramp, 17, FPS, **SIZE, every=2), tmp_path)
    assert brightness(frames) == [0, *range(10, 170, 20)]


@pytest.mark.parametrize(
    ("beside", "notes"),
    [
        (25 / 24, ()),
        (24 / 24, ()),
        (48 / 24, ("its reference lasts 1.04 s, the clip 2.00 s",)),
    ],
)
def test_a_reference_of_another_length_is_reported(ramp, tmp_path, beside, notes):
    decoded, _ = read(Job("frames", ramp, 9, FPS, **SIZE, beside=beside), tmp_path)
    assert decoded.notes == notes


def test_too_few_frames(ramp, tmp_path):
    decoded, _ = read(Job("frames", ramp, 33, FPS, **SIZE), tmp_path)
    assert (decoded.fault, decoded.num_frames, decoded.shape) == ("too short", 25, ())


def test_a_still_is_one_frame_as_it_is(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    _, frames = read(
        Job("frames", tmp_path / "a.png", 1, Fraction(1), **SIZE, is_still=True), tmp_path
    )
    assert np.array_equal(frames[None].swapaxes(1, 2), to_pixels([picture], **SIZE))


def test_a_place_moves_the_cut(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    for place, start in {(0, 0): 0, (0, 0.5): 16, (0.9, 0.999): 31}.items():
        job = Job("frames", tmp_path / "a.png", 1, FPS, **SIZE, is_still=True, place=place)
        _, frames = read(job, tmp_path)
        shown = np.rint((frames[0] + 1) * 127.5).transpose(1, 2, 0)
        assert np.array_equal(shown, picture[:, start : start + 64])


def test_sound_is_as_long_as_the_frames(tmp_path):
    sound = tone(RATE)
    path = write(tmp_path / "a.mkv", sound=sound)
    decoded, samples = read(Job("sound", path, 12, FPS), tmp_path)
    assert (decoded.rate, decoded.notes) == (RATE, ())
    assert np.array_equal(samples, sound[:, : RATE // 2])


def test_sound_that_ends_early_is_padded_and_reported(tmp_path):
    path = write(tmp_path / "a.mkv", sound=tone(RATE // 4))
    decoded, samples = read(Job("sound", path, 12, FPS), tmp_path)
    assert decoded.notes == ("its sound lasts 0.25 of 0.50 s, silence follows",)
    assert samples.shape == (2, RATE // 2)
    assert np.abs(samples[:, : RATE // 4]).max() > 0.4
    assert not samples[:, RATE // 4 :].any()


@pytest.mark.parametrize(("loud", "silent"), [(0.0, True), (0.0015, True), (0.003, False)])
def test_silence_is_reported(tmp_path, loud, silent):
    """-60 dBFS: a sine of amplitude 0.0014, with the softer right side 0.0018."""
    path = write(tmp_path / "a.mkv", sound=tone(RATE, loud=loud))
    decoded, _ = read(Job("sound", path, 24, FPS), tmp_path)
    assert decoded.notes == (("its sound is silence",) if silent else ())


def test_a_mask_is_pooled_as_the_vae_groups_frames(tmp_path):
    """Frame 0 alone, then eights: one white frame is an eighth of a later latent."""
    frames = still_frames(17, grey=0, height=64, width=64)
    frames[0] = 255
    frames[9] = 255
    frames[:, :32, 32:] = 255
    path = write(tmp_path / "mask.mkv", frames)
    job = Job("frame mask", path, 17, FPS, 64, 64, grid=(3, 2, 2))
    decoded, mask = read(job, tmp_path)
    assert decoded.shape == (3, 2, 2)
    wanted = np.array([1, 0, 1 / 8], np.float32)[:, None, None].repeat(2, 1).repeat(2, 2)
    wanted[:, 0, 1] = 1
    assert np.allclose(mask, wanted, atol=1e-6)


def test_a_mask_is_cut_as_its_clip(tmp_path):
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, :32] = 255
    Image.fromarray(picture).save(tmp_path / "m.png")
    job = Job("frame mask", tmp_path / "m.png", 9, FPS, **SIZE, grid=(2, 1, 2))
    for place, wanted in {(0.0, 0.0): [1, 0], (0.5, 0.5): [0.5, 0]}.items():
        _, mask = read(job._replace(place=place), tmp_path)
        assert mask[1, 0].tolist() == wanted


def test_the_loudness_of_a_sound_mask(tmp_path):
    sound = np.zeros((2, RATE), np.float32)
    sound[:, : RATE // 4] = -1
    path = write(tmp_path / "m.mkv", sound=sound)
    _, loudness = read(Job("sound mask", path, 12, FPS), tmp_path)
    assert np.array_equal(loudness, np.repeat(np.float32([1, 0]), RATE // 4))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (Job("frames", Path("gone.mp4"), 9, FPS, **SIZE), "gone.mp4: no such file or folder"),
        (Job("frames", Path("text.mp4"), 9, FPS, **SIZE), "text.mp4: not a video or sound"),
        (Job("sound", Path("mute.mkv"), 9, FPS), "mute.mkv: has no sound"),
        (
            Job("frame mask", Path("mute.mkv"), 17, FPS, **SIZE, grid=(3, 1, 2)),
            "mute.mkv: the mask has 9 frames, the clip 17",
        ),
        (
            Job("sound mask", Path("short.mkv"), 24, FPS),
            "short.mkv: the mask lasts 0.50 s, the clip 1.00 s",
        ),
        (Job("frames", Path("text.png"), 1, FPS, **SIZE, is_still=True), "text.png: not a picture"),
    ],
)
def test_what_hinders_is_said(tmp_path, monkeypatch, job, said):
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("no video")
    Path("text.png").write_text("no picture")
    write(Path("mute.mkv"), still_frames(9))
    write(Path("short.mkv"), sound=tone(RATE // 2))
    decoded, _ = read(job, tmp_path)
    assert said in decoded.fault
    assert "\n" not in decoded.fault


def test_a_full_disk_is_said(tmp_path, ramp, small_files):
    decoded, _ = read(Job("frames", ramp, 17, FPS, **SIZE), tmp_path)
    assert decoded.fault == "the temporary folder, which TMPDIR names: file too large"


def test_workers_do_without_mlx():
    code = "import ltx_train.reading.worker, sys; print(*{m.split('.')[0] for m in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = found.stdout.split()
    assert "ltx_train" in names
    assert not {"mlx", "mlx_lm", "mlx_vlm"} & {*names}
