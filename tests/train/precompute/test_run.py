import hashlib
import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.media.resize import cover
from ltx_infer.media.video import read_video
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.text_encoder import encode_features
from ltx_models.video_vae import load_video_encoder
from ltx_models.weights import TensorFile
from ltx_train.inputs.buckets import Bucket
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.run import KEPT, precompute
from tests.train.conftest import BUCKET, run, write_pair


def tensors(path: Path) -> dict[str, mx.array]:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


def written(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_layout(data):
    assert list(written(data)) == [
        "conditions/a.safetensors",
        "conditions/sub/b.safetensors",
        "empty_prompt.safetensors",
        "latents/a.safetensors",
        "latents/sub/b.safetensors",
        "manifest.jsonl",
    ]


def test_manifest(data):
    lines = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "clip": "sub/b.mov",
        "caption": "a clip of sub/b.mov",
        "trigger": None,
        "bucket": "64x32x9",
        "fps": 24.0,
        "has_sound": False,
        "files": {
            "latents": "latents/sub/b.safetensors",
            "conditions": "conditions/sub/b.safetensors",
        },
        "notes": [],
    }


def test_the_manifest_has_captions_as_they_are_encoded(tiny, clips, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    outcomes = run(clips, tmp_path / "data", trigger="sks")
    lines = (tmp_path / "data/manifest.jsonl").read_text().splitlines()
    found = [(line["caption"], line["trigger"]) for line in map(json.loads, lines)]
    assert found == [("sks a clip of a.mp4", "sks"), ("sks a clip of sub/b.mov", "sks")]
    about = TensorFile(tmp_path / "data/conditions/a.safetensors").metadata
    assert (about["caption"], about["trigger"]) == found[0]
    assert {outcome.reason for outcome in outcomes} == {""}


def test_latents_equal_a_direct_encode(data, clips, tiny):
    """Frames from the start, covering the bucket, scaled to [-1, 1] once."""
    checkpoint = open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")
    frames, _ = read_video(clips / "sub/b.mov", max_frames=9)
    pixels = np.stack([cover(frame, height=32, width=64) for frame in frames]) / 127.5 - 1
    assert pixels.min() < -0.5 < 0.5 < pixels.max() <= 1
    video = mx.array(pixels.astype(np.float32).transpose(3, 0, 1, 2)[None])
    expected = load_video_encoder(checkpoint, dtype=mx.float32)(video)[0]
    path = data / "latents/sub/b.safetensors"
    stored = tensors(path)["latents"]
    assert stored.shape == (16, 2, 1, 2)
    assert mx.allclose(stored, expected, atol=1e-5)
    about = TensorFile(path).metadata
    source = (clips / "sub/b.mov").read_bytes()
    assert about.pop("source_sha256") == hashlib.sha256(source).hexdigest()
    assert len(about.pop("model_hash")) == 16
    assert about == {
        "num_frames": "2",
        "height": "1",
        "width": "2",
        "fps": "24.0",
        "bucket": "64x32x9",
        "source": "sub/b.mov",
        "crop": "center",
        "model_version": "2.3.0",
    }


def test_features_are_those_of_the_caption_and_of_nothing(data, tiny):
    checkpoint = open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")
    prompts = {"conditions/a": "a clip of a.mp4", "empty_prompt": ""}
    direct = encode_features(
        tiny / "gemma-3-tiny", checkpoint, list(prompts.values()), dtype=mx.float32
    )
    for (name, caption), expected in zip(prompts.items(), direct, strict=True):
        path = data / f"{name}.safetensors"
        stored = tensors(path)
        assert mx.array_equal(stored["video_prompt_embeds"], expected.video)
        assert mx.array_equal(stored["audio_prompt_embeds"], expected.audio)
        assert stored["prompt_attention_mask"].tolist() == [True] * expected.video.shape[0]
        about = TensorFile(path).metadata
        assert (about["caption"], about["model_version"]) == (caption, "2.3.0")


def test_one_failure_does_not_stop_the_rest(tiny, tmp_path):
    clips = tmp_path / "clips"
    write_pair(clips, "größe.mp4")
    write_pair(clips, "short.mp4", frames=4)
    write_pair(clips, "mute.mp4", caption=None)
    write_pair(clips, "torn.mp4")
    torn = (clips / "torn.mp4").read_bytes()
    (clips / "torn.mp4").write_bytes(torn[: len(torn) // 4])
    for name in ("text.mp4", "text.txt"):
        (clips / name).write_text("a text, whatever it is called")
    outcomes = {o.name: (o.status, o.reason) for o in run(clips, tmp_path / "data")}
    assert outcomes.pop("torn.mp4")[0] == "failed"
    status, reason = outcomes.pop("text.mp4")
    assert status == "failed"
    assert reason.startswith("not a video or sound that can be read")
    assert outcomes == {
        "größe.mp4": ("done", ""),
        "mute.mp4": ("skipped", "no caption; mute.txt is wanted"),
        "short.mp4": ("skipped", "too short: 4 frames at 24 a second, 64x32x9 needs 9"),
    }
    assert "latents/größe.safetensors" in written(tmp_path / "data")


def test_a_folder_of_which_nothing_can_be_used(tiny, tmp_path):
    write_pair(tmp_path / "clips", "a.mp4", caption=None)
    (outcome,) = run(tmp_path / "clips", tmp_path / "data")
    assert outcome.status == "skipped"
    assert written(tmp_path / "data") == {"manifest.jsonl": b""}


def test_what_has_not_changed_is_kept(tiny, tmp_path):
    clips, data = tmp_path / "clips", tmp_path / "data"
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_pair(clips, name)
    run(clips, data)
    before = written(data)
    times = {path: path.stat().st_mtime_ns for path in data.rglob("*.safetensors")}
    assert [outcome.reason for outcome in run(clips, data)] == [KEPT] * 3
    assert {path: path.stat().st_mtime_ns for path in times} == times

    (clips / "a.txt").write_text("another caption")
    (clips / "b.mp4").write_bytes((clips / "c.mp4").read_bytes())
    torn = data / "latents/c.safetensors"
    torn.write_bytes(torn.read_bytes()[:-10])
    assert [outcome.reason for outcome in run(clips, data)] == ["", "", ""]
    after = written(data)
    changed = {name for name, content in after.items() if content != before[name]}
    assert changed == {"conditions/a.safetensors", "latents/b.safetensors", "manifest.jsonl"}

    assert {outcome.reason for outcome in run(clips, data, overwrite=True)} == {""}
    assert written(data) == after
    other = Bucket(32, 32, 1)
    assert {outcome.reason for outcome in run(clips, data, other)} == {""}
    assert tensors(data / "latents/a.safetensors")["latents"].shape == (16, 1, 1, 1)


def test_a_dry_run_says_what_was_understood_and_writes_nothing(tiny, clips, tmp_path):
    lines = []
    config = PrecomputeConfig(tmp_path / "data", "tiny", (BUCKET,), clips, dry_run=True)
    assert precompute(config, report=lambda *_: None, say=lines.append) == []
    assert "sub/b.mov" in "\n".join(lines)
    assert not (tmp_path / "data").exists()


def test_samples_of_clips_that_are_gone_are_left_and_named(tiny, tmp_path):
    clips, data = tmp_path / "clips", tmp_path / "data"
    for name in ("a.mp4", "b.mp4"):
        write_pair(clips, name)
    run(clips, data)
    (clips / "b.mp4").unlink()
    lines = []
    config = PrecomputeConfig(data, "tiny", (BUCKET,), clips)
    precompute(config, report=lambda *_: None, say=lines.append)
    assert f"{data}: 1 of its samples are of no clip of this run and stay: b" in lines
    assert "latents/b.safetensors" in written(data)


@pytest.mark.parametrize(
    ("buckets", "changes", "said"),
    [
        ((Bucket(64, 60, 9),), {}, "64x64x9 would fit"),
        ((BUCKET,), {"model": "gone"}, "--model gone: "),
        ((BUCKET,), {"text_encoder_repo": Path("gone")}, "gone"),
        ((BUCKET,), {"input_dir": Path("gone")}, "--input-dir gone: there is no such folder"),
        (
            (BUCKET,),
            {"output_dir": Path("/dev/null/data")},
            "--output-dir /dev/null/data: /dev/null is no",
        ),
    ],
)
def test_what_concerns_all_clips_stops_before_anything_is_written(
    tiny, clips, tmp_path, buckets, changes, said
):
    with pytest.raises(UserError) as error:
        run(clips, tmp_path / "data", *buckets, **changes)
    assert said in str(error.value)
    assert not (tmp_path / "data").exists()
