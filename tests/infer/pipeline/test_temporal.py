"""Twice the frames of a finished clip."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer import Pipeline
from ltx_infer.cli import main
from ltx_infer.combinations import faults
from ltx_infer.config import build
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.saved import Saved, load, save
from ltx_models.check import check_temporal_upscaler
from ltx_models.checkpoint import open_checkpoint
from ltx_models.config import ConfigError
from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import load_video_statistics
from tests.infer.media.written import read

SMALL = {"model": "tiny", "one_stage": True, "steps": 1, "height": 64, "width": 64}


def file(tiny: Path, pattern: str) -> Path:
    (found,) = tiny.glob(pattern)
    return found


def test_the_last_latents_get_twice_the_frames(tiny):
    plain = Pipeline(**SMALL, num_frames=17)("a boat")
    clip = Pipeline(**SMALL, num_frames=17, temporal_upscale=True)("a boat")
    assert clip.frames.shape == (33, 64, 64, 3)
    assert (plain.fps, clip.fps) == (24, 48)
    checkpoint = open_checkpoint(file(tiny, "*tiny.safetensors"))
    upscaler = load_upsampler(file(tiny, "*temporal*"), dtype=mx.float32)
    statistics = load_video_statistics(checkpoint, dtype=mx.float32)
    want = upsample(upscaler, plain.latents.video, statistics=statistics)
    assert np.array_equal(clip.latents.video, want)


def test_a_clip_in_a_file_has_twice_the_frames_too(tiny, tmp_path):
    words = ["--model", "tiny", "-p", "a boat", "-H", "64"]
    clip, latents = tmp_path / "a.mp4", tmp_path / "a.latents.safetensors"
    words += ["-W", "64", "-n", "9", "--temporal-upscale", "-o", str(clip)]
    main(words)
    made = read(clip)
    assert (len(made.planes), made.rate) == (17, 48)
    clip.unlink()
    main([*words, "--skip-vae"])
    main(["--decode-only", str(latents), "-o", str(clip)])
    again = read(clip)
    assert again.rate == 48
    assert all(np.array_equal(*pair) for pair in zip(again.planes, made.planes, strict=True))


def test_what_is_not_done_yet_is_done_before_latents_are_decoded(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = mx.random.normal((1, 16, 2, 2, 2), key=mx.random.key(0))
    temporal = file(tiny, "*temporal*")
    saved = Saved(ClipLatents(video, None), 24.0, "tiny", temporal_upscaler=temporal)
    save(Path("a.safetensors"), saved)
    assert load(Path("a.safetensors")).temporal_upscaler == temporal
    main(["--decode-only", "a.safetensors", "-o", "a.mp4"])
    clip = read(Path("a.mp4"))
    assert (len(clip.planes), clip.rate) == (17, 48)


def test_an_upscaler_that_is_gone(tiny, tmp_path, capsys):
    gone = tmp_path / "gone.safetensors"
    video = mx.random.normal((1, 16, 2, 2, 2))
    saved = Saved(ClipLatents(video, None), 24.0, "tiny", temporal_upscaler=gone)
    save(tmp_path / "a.safetensors", saved)
    with pytest.raises(SystemExit):
        main(["--decode-only", f"{tmp_path}/a.safetensors", "-o", f"{tmp_path}/a.mp4"])
    said = f"ltx-generate: {gone}: the run's temporal upscaler is not there any more\n"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()


def test_upscalers_that_do_not_fit(tiny):
    checkpoint = open_checkpoint(file(tiny, "*tiny.safetensors"))
    check_temporal_upscaler(checkpoint, file(tiny, "*temporal*"))
    with pytest.raises(ConfigError, match="adds rows and columns; a temporal upscaler is wanted"):
        check_temporal_upscaler(checkpoint, file(tiny, "*spatial-upscaler-x2*"))
    other = {**checkpoint.config, "vae": {**checkpoint.config["vae"], "latent_channels": 8}}
    with pytest.raises(ConfigError, match="takes latents of 16 channels, but those of"):
        check_temporal_upscaler(replace(checkpoint, config=other), file(tiny, "*temporal*"))


def test_sound_alone_has_no_frames():
    config = build({"prompt": "rain", "pipeline": "t2a", "temporal_upscale": True})
    assert "--temporal-upscale: t2a makes sound only" in faults(config)
