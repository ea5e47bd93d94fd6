"""Sounds, references and masks of clips: their files, and what becomes of those that fail."""

import hashlib
import json
from pathlib import Path

import av
import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.media.resize import temporal_subsample, to_pixels
from ltx_infer.media.video import video_info
from ltx_models.audio_vae import AudioVAEConfig, encode_waveform, load_audio_encoder
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import audio_positions, video_positions
from ltx_models.video_vae import VideoVAEConfig, load_video_encoder
from ltx_models.weights import TensorFile
from ltx_train.inputs.buckets import Bucket
from ltx_train.precompute.run import KEPT
from tests.train.conftest import run
from tests.train.reading.media import RATE, still_frames, tone, write

BUCKET, SHORT = Bucket(64, 32, 25), Bucket(64, 32, 9)
SEED = np.random.default_rng(0)


def noise(num_frames: int, *, height: int = 40, width: int = 88) -> np.ndarray:
    coarse = SEED.integers(0, 256, (num_frames, height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def tensor(path: Path, name: str = "latents") -> mx.array:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    assert list(found) == [name]
    return found[name]


def said(clips: Path, data: Path, *buckets: Bucket, **changes) -> dict[str, tuple[str, str]]:
    outcomes = run(clips, data, *buckets or (BUCKET,), **changes)
    return {outcome.name: (outcome.status, outcome.reason) for outcome in outcomes}


def manifest(data: Path) -> list[dict]:
    return [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]


def files(data: Path) -> set[str]:
    found = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(("empty", "manifest"))}


def checkpoint(tiny: Path):
    return open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")


def test_sound_of_the_frames_taken(tiny, tmp_path):
    """Its latents are those of the waveform cut to the frames; the rest of it is not heard."""
    sound = tone(2 * RATE)
    write(tmp_path / "clips/a.mkv", noise(48), sound=sound)
    data = tmp_path / "data"
    assert said(tmp_path / "clips", data, with_audio=True) == {"a.mkv": ("done", "")}
    path = data / "audio_latents/a.safetensors"
    stored, about = tensor(path), TensorFile(path).metadata
    heard = mx.array(sound[None, :, : 25 * RATE // 24])
    encoder = load_audio_encoder(checkpoint(tiny), dtype=mx.float32)
    wanted = encode_waveform(encoder, heard, sampling_rate=RATE)[0]
    assert stored.shape == (wanted.shape[0], 26, wanted.shape[2])
    assert stored.dtype == mx.float32
    assert mx.allclose(stored, wanted[:, :26], atol=1e-5)
    assert len(about.pop("source_sha256")) == 64
    assert len(about.pop("model_hash")) == 16
    assert about == {
        "source": "a.mkv",
        "model_version": "2.3.0",
        "num_time_steps": "26",
        "frequency_bins": str(stored.shape[2]),
        "duration": str(25 / 24),
    }
    (line,) = manifest(data)
    assert line["has_sound"]
    assert line["files"]["audio_latents"] == "audio_latents/a.safetensors"


def test_picture_and_sound_change_at_the_same_time(tiny, tmp_path):
    """The first latent that differs from that of a clip without the change is that of frame 17."""
    changing, sound = still_frames(25), tone(25 * RATE // 24)
    changing[17:] = 220
    louder = sound.copy()
    louder[:, 17 * RATE // 24 :] *= -1.9
    write(tmp_path / "clips/same.mkv", still_frames(25), sound=sound)
    write(tmp_path / "clips/changing.mkv", changing, sound=louder)
    data = tmp_path / "data"
    said(tmp_path / "clips", data, with_audio=True)
    firsts = {}
    for kind, axes in {"latents": (0, 2, 3), "audio_latents": (0, 2)}.items():
        pair = [tensor(data / kind / f"{name}.safetensors") for name in ("same", "changing")]
        differs = mx.abs(pair[1] - pair[0]).max(axis=axes) > 1e-4
        firsts[kind] = differs.tolist().index(True)

    model = checkpoint(tiny)
    scale = model.section("vae", VideoVAEConfig).scale
    bounds = video_positions((4, 1, 1), fps=24, scale=scale)[0, 0]
    assert bounds[firsts["latents"]][0] == pytest.approx(17 / 24)
    heard = audio_positions(26, scale=model.section("audio_vae", AudioVAEConfig).scale)[0, 0]
    (wanted,) = np.flatnonzero((heard[:, 0] <= 17 / 24) & (heard[:, 1] > 17 / 24))
    assert abs(firsts["audio_latents"] - wanted) <= 1

    video = mx.array(to_pixels(changing, height=32, width=64))
    direct = load_video_encoder(model, dtype=mx.float32)(video)[0]
    assert mx.allclose(tensor(data / "latents/changing.safetensors"), direct, atol=1e-5)


def write_empty_track(path: Path) -> Path:
    """A clip with a sound track that has no samples, as some screen recorders write."""
    frames = noise(25)
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("ffv1", 24, width=frames.shape[2], height=frames.shape[1])
        video.pix_fmt = "bgr0"
        container.add_stream("pcm_f32le", RATE, layout="stereo")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
    path.with_suffix(".txt").write_text("a clip")
    return path


def test_a_sound_track_with_nothing_in_it_is_none(tiny, tmp_path):
    """Nor does the sound stay that the clip had before."""
    clips, data = tmp_path / "clips", tmp_path / "data"
    write(clips / "a.mkv", noise(25), sound=tone(2 * RATE))
    assert said(clips, data, with_audio=True) == {"a.mkv": ("done", "")}
    write_empty_track(clips / "a.mkv")
    assert video_info(clips / "a.mkv").has_sound
    for kept in ("", f"{KEPT}; "):
        outcomes = said(clips, data, with_audio=True)
        assert outcomes == {"a.mkv": ("done", f"{kept}it has no sound")}
        assert files(data) == {"latents/a.safetensors", "conditions/a.safetensors"}
        (line,) = manifest(data)
        assert (line["has_sound"], line["notes"]) == (False, ["it has no sound"])


def test_a_reference_sound_with_nothing_in_it_is_a_failure(tiny, tmp_path):
    write(tmp_path / "clips/a.mkv", noise(25))
    (tmp_path / "refs").mkdir()
    write_empty_track(tmp_path / "refs/a.mkv")
    outcomes = said(tmp_path / "clips", tmp_path / "data", reference_audio_dir=tmp_path / "refs")
    why = f"its reference sound: {tmp_path / 'refs/a.mkv'}: has no sound"
    assert outcomes.pop("a.mkv") == ("failed", why)
    endings = ".wav, .flac, .mp3, .ogg, .m4a, .mp4, .mov, .mkv, .webm, .gif"
    assert outcomes == {"refs/a.txt": ("skipped", f"no reference sound: {endings} are read")}


def test_what_is_said_of_sound_is_kept(tiny, tmp_path):
    """Notes are in the files, so that a second run says them again and lists the same."""
    clips, data = tmp_path / "clips", tmp_path / "data"
    write(clips / "mute.mkv", noise(25))
    write(clips / "short.mkv", noise(25), sound=tone(RATE // 2))
    write(clips / "silent.mkv", noise(25), sound=tone(2 * RATE, loud=0))
    wanted = {
        "mute.mkv": "it has no sound",
        "short.mkv": "its sound lasts 0.50 of 1.04 s, silence follows",
        "silent.mkv": "its sound is silence",
    }
    outcomes = said(clips, data, with_audio=True)
    assert outcomes == {name: ("done", note) for name, note in wanted.items()}
    before = (data / "manifest.jsonl").read_bytes()
    assert [line["notes"] for line in manifest(data)] == [[note] for note in wanted.values()]
    assert [line["has_sound"] for line in manifest(data)] == [False, True, True]
    outcomes = said(clips, data, with_audio=True)
    assert outcomes == {name: ("done", f"{KEPT}; {note}") for name, note in wanted.items()}
    assert (data / "manifest.jsonl").read_bytes() == before


def test_stills(tiny, tmp_path):
    from PIL import Image  # noqa: PLC0415

    clips, data = tmp_path / "clips", tmp_path / "data"
    clips.mkdir()
    picture = noise(1, height=64, width=120)[0]
    Image.fromarray(picture).save(clips / "a.png")
    (clips / "a.txt").write_text("a still")
    assert said(clips, data, Bucket(64, 32, 1)) == {"a.png": ("done", "")}
    path = data / "latents/a.safetensors"
    wanted = mx.array(to_pixels([picture], height=32, width=64))
    direct = load_video_encoder(checkpoint(tiny), dtype=mx.float32)(wanted)[0]
    assert mx.allclose(tensor(path), direct, atol=1e-5)
    about = TensorFile(path).metadata
    assert (about["fps"], about["num_frames"], about["bucket"]) == ("1.0", "1", "64x32x1")


def test_references(tiny, tmp_path):
    """Half the size, and of the frames after the first one in two; the clip's own stay whole."""
    frames, reference = noise(20), noise(20)
    write(tmp_path / "clips/a.mkv", frames)
    write(tmp_path / "refs/a.mkv", reference, caption=None)
    data = tmp_path / "data"
    outcomes = said(
        tmp_path / "clips",
        data,
        Bucket(128, 64, 17),
        reference_dir=tmp_path / "refs",
        reference_downscale_factor=2,
        reference_temporal_scale_factor=2,
    )
    assert outcomes == {"a.mkv": ("done", "")}
    path = data / "reference_latents/a.safetensors"
    video = temporal_subsample(to_pixels(reference[:17], height=32, width=64), factor=2)
    direct = load_video_encoder(checkpoint(tiny), dtype=mx.float32)(mx.array(video))[0]
    assert mx.allclose(tensor(path), direct, atol=1e-5)
    about = TensorFile(path).metadata
    assert about["source_sha256"] == digest(tmp_path / "refs/a.mkv")
    assert (about["fps"], about["bucket"], about["crop"]) == ("12.0", "128x64x17", "center")
    assert [about[key] for key in ("num_frames", "height", "width")] == ["2", "1", "2"]
    assert about["reference_spatial_scale_factor"] == "2"
    assert about["reference_temporal_scale_factor"] == "2"
    assert tensor(data / "latents/a.safetensors").shape[1:] == (3, 2, 4)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_random_crop_is_the_same_for_all_that_belongs_together(tiny, tmp_path):
    frames = noise(9, height=32, width=256)
    for name in ("a", "b"):
        write(tmp_path / f"clips/{name}.mkv", frames)
        write(tmp_path / f"refs/{name}.mkv", frames, caption=None)
    taken = {}
    for crop in ("random", "center"):
        data = tmp_path / crop
        said(
            tmp_path / "clips",
            data,
            Bucket(64, 32, 9),
            reference_dir=tmp_path / "refs",
            crop=crop,
        )
        for name in ("a", "b"):
            own = tensor(data / f"latents/{name}.safetensors")
            reference = tensor(data / f"reference_latents/{name}.safetensors")
            assert mx.array_equal(own, reference)
            taken[crop, name] = own
    assert mx.array_equal(taken["center", "a"], taken["center", "b"])
    assert not mx.allclose(taken["random", "a"], taken["center", "a"], atol=1e-2)
    assert not mx.allclose(taken["random", "a"], taken["random", "b"], atol=1e-2)
    again = tmp_path / "random"
    outcomes = said(
        tmp_path / "clips", again, Bucket(64, 32, 9), reference_dir=tmp_path / "refs", crop="random"
    )
    assert {reason for _, reason in outcomes.values()} == {KEPT}


def test_masks(tiny, tmp_path):
    clips, data = tmp_path / "clips", tmp_path / "data"
    write(clips / "a.mkv", noise(25), sound=tone(2 * RATE))
    mask = still_frames(25, grey=0, height=32, width=64)
    mask[9:17, :, :32] = 255
    write(tmp_path / "masks/a.mkv", mask, caption=None)
    loud = np.zeros((2, 25 * RATE // 24), np.float32)
    loud[:, : RATE // 2] = 1
    write(tmp_path / "sounds/a.mkv", sound=loud, caption=None)
    changes = {
        "with_audio": True,
        "video_mask_dir": tmp_path / "masks",
        "audio_mask_dir": tmp_path / "sounds",
    }
    assert said(clips, data, **changes) == {"a.mkv": ("done", "")}
    path = data / "video_masks/a.safetensors"
    assert tensor(path, "mask").tolist() == [[[0, 0]], [[0, 0]], [[1, 0]], [[0, 0]]]
    about = TensorFile(path).metadata
    assert about["source_sha256"] == digest(tmp_path / "masks/a.mkv")
    assert (about["bucket"], about["num_frames"]) == ("64x32x25", "4")
    heard = tensor(data / "audio_masks/a.safetensors", "mask")
    # Latent k > 0 is heard until (4k + 1) hundredths of a second: the 12th until 0.49 s.
    assert heard.tolist() == pytest.approx([1] * 13 + [0.25] + [0] * 12, abs=1e-6)
    assert said(clips, data, **changes) == {"a.mkv": ("done", KEPT)}


def test_a_clip_that_fails_on_the_way_leaves_no_file(tiny, tmp_path):
    """Half a sample would stop the training, or spoil it; what was whole before goes with it."""
    clips, refs, data = tmp_path / "clips", tmp_path / "refs", tmp_path / "data"

    def done() -> bool:
        outcomes = said(clips, data, SHORT, reference_dir=refs).values()
        return {status for status, _ in outcomes} == {"done"}

    for name in ("a", "b", "c"):
        write(clips / f"{name}.mkv", noise(9))
        write(refs / f"{name}.mkv", noise(9), caption=None)
    assert done()
    whole = files(data)
    assert len(whole) == 9
    write(refs / "a.mkv", noise(5), caption=None)
    (refs / "b.mkv").write_bytes(b"no video")
    outcomes = said(clips, data, SHORT, reference_dir=refs)
    assert outcomes == {
        "a.mkv": ("failed", "its reference: too short: 5 frames, the clip's 64x32x9 needs 9"),
        "b.mkv": (
            "failed",
            f"its reference: {refs / 'b.mkv'}: not a video or sound that can be read, or damaged",
        ),
        "c.mkv": ("done", KEPT),
    }
    assert files(data) == {name for name in whole if "/c." in name}
    assert [line["clip"] for line in manifest(data)] == ["c.mkv"]
    write(refs / "a.mkv", noise(9), caption=None)
    write(refs / "b.mkv", noise(9), caption=None)
    assert done()
    assert files(data) == whole


@pytest.mark.slow
def test_what_this_run_does_not_make_goes_with_the_clip_that_it_was_of(tiny, tmp_path):
    clips, data = tmp_path / "clips", tmp_path / "data"
    write(clips / "a.mkv", noise(25), sound=tone(2 * RATE))
    said(clips, data, with_audio=True)
    assert said(clips, data) == {"a.mkv": ("done", KEPT)}
    assert "audio_latents/a.safetensors" in files(data)
    write(clips / "a.mkv", noise(25))
    assert said(clips, data) == {"a.mkv": ("done", "")}
    assert files(data) == {"latents/a.safetensors", "conditions/a.safetensors"}


@pytest.mark.slow  # the default run has it of captions, and of a single file
def test_files_of_another_model_are_refused_by_name(tiny, tmp_path):
    """Before anything is written, though the clip has changed and would be encoded anew."""
    clips, data = tmp_path / "clips", tmp_path / "data"
    write(clips / "a.mkv", noise(25), sound=tone(2 * RATE))
    said(clips, data, with_audio=True)
    write(clips / "a.mkv", noise(25), sound=tone(RATE))
    for name in ("latents/a", "audio_latents/a", "conditions/a", "empty_prompt"):
        path = data / f"{name}.safetensors"
        ours = path.read_bytes()
        about = {**TensorFile(path).metadata, "model_hash": "0123456789abcdef"}
        mx.save_safetensors(str(path), dict(mx.load(str(path))), about)
        before = {other: other.read_bytes() for other in data.rglob("*") if other.is_file()}
        with pytest.raises(UserError) as error:
            said(clips, data, with_audio=True)
        first, second = str(error.value).split("\n")
        assert first.startswith(f"{path}: made with model version 2.3.0, weights 0123456789abcdef;")
        assert "asked for are version 2.3.0, weights " in first
        assert second == "--overwrite makes it anew; another --output-dir leaves it as it is"
        assert {other: other.read_bytes() for other in before} == before
        path.write_bytes(ours)
    mx.save_safetensors(str(path), dict(mx.load(str(path))), about)
    assert said(clips, data, with_audio=True, overwrite=True)["a.mkv"][0] == "done"
    assert path.read_bytes() == ours
