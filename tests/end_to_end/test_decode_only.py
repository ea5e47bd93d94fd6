"""Runs that are killed, stopped or go wrong: what stays, and how it goes on from there."""

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.saved import Saved, latents_path, load, save
from ltx_infer.pipeline.unwritten import Unwritten, how_to_decode
from ltx_infer.settings import comment_of
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from tests.end_to_end.conftest import COMMAND, read_clip
from tests.infer.media.odd_media import sweep, write_sound

SMALL = ("--model", "tiny", "-p", "a boat", "-H", "64", "-W", "64", "-n", "9")
# So many frames that decoding takes long enough to be caught at it.
LONG = (*SMALL[:4], "--one-stage", "--steps", "1", "-H", "128", "-W", "128", "-n", "57")
SIGNALS = [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
WITH = {"sound that is made": ("--audio",), "sound that is given": ("--audio-file", "sweep.wav")}
LATENTS = "clip.latents.safetensors"


@pytest.fixture
def folder(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(folder: Path, *words: str, by: int) -> subprocess.CompletedProcess[str]:
    """Run the real command and send it a signal as soon as its latents are there."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [COMMAND, *words], cwd=folder, stdout=pipe, stderr=pipe, text=True
    ) as run:
        while run.poll() is None and not (folder / LATENTS).exists():
            time.sleep(0.002)
        run.send_signal(by)
        out, err = run.communicate()
    return subprocess.CompletedProcess(words, run.returncode, out, err)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "sound", ["sound that is made", pytest.param("sound that is given", marks=pytest.mark.slow)]
)
def test_killed_while_it_decodes_it_goes_on_with_the_same_clip(folder, sound):
    write_sound(folder / "sweep.wav", np.stack([sweep(3), -sweep(3)]))
    words = (*LONG, *WITH[sound])
    main([*words, "-o", "whole.mp4"])
    assert names(folder) == ["sweep.wav", "whole.mp4"]  # latents are gone after success

    killed = ended(folder, *words, "-o", "clip.mp4", by=signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "clip.mp4").exists()
    (folder / "sweep.wav").unlink()  # what is needed is in the latents' file

    main(["--decode-only", LATENTS, "-o", "clip.mp4"])
    whole, clip = read_clip(folder / "whole.mp4"), read_clip(folder / "clip.mp4")
    assert np.array_equal(whole.frames, clip.frames)
    assert np.array_equal(whole.sound, clip.sound)
    assert whole.rate == clip.rate


@pytest.mark.parametrize(("by", "code"), SIGNALS)
def test_stopped_while_it_decodes_it_says_how_to_go_on(folder, capsys, by, code):
    stopped = ended(folder, *LONG, "-o", "clip.mp4", by=by)
    assert stopped.returncode == code
    first, second = stopped.stderr.splitlines()[-2:]
    assert first == "ltx-generate: stopped"
    assert names(folder) == [LATENTS]
    assert second.startswith("To decode the ")  # latents, or the last good ones: it has just begun
    main(shlex.split(second.partition(": ")[2])[1:])
    assert capsys.readouterr().out == "clip.mp4: 57 frames, no sound\n"


@pytest.mark.parametrize(("by", "code"), SIGNALS)
def test_stopped_before_that_it_leaves_nothing(folder, by, code):
    """Stopped when the first stage of 500 steps has begun."""
    words = (*SMALL, "--pipeline", "dev", "--steps", "500", "-o", "clip.mp4")
    with subprocess.Popen([COMMAND, *words], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert run.stderr.readline().startswith("text: ")
        time.sleep(0.1)
        run.send_signal(by)
        assert run.stderr.read() == "ltx-generate: stopped\n"
    assert run.returncode == code
    assert names(folder) == []


def fails(capsys: pytest.CaptureFixture, *words: str) -> list[str]:
    """What the command says at its end when the exit code is 2, behind its lines of progress."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*words])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith("ltx-generate: "))
    assert len(lines[start:]) <= 4
    return lines[start:]


@pytest.fixture
def wild(folder: Path) -> str:
    """A LoRA on the last layer, which nothing after it can tame."""
    A, B = mx.random.normal((1, 64), key=mx.random.key(0)), mx.ones((16, 1))
    parts = {"lora_A.weight": A, "lora_B.weight": B}
    (folder / "wild").mkdir()
    mx.save_safetensors(
        "wild/wild.safetensors", {f"diffusion_model.proj_out.{k}": v for k, v in parts.items()}
    )
    return "wild/wild.safetensors"


def test_latents_that_go_wild_end_the_run_with_the_last_good_ones_kept(folder, capsys, wild):
    said = fails(capsys, *SMALL, "--lora", wild, "10", "-o", "clip.mp4")
    assert said[0].startswith("ltx-generate: stage 1, 32x32, step 5, video: the latents' standard")
    assert names(folder) == [LATENTS, "wild"]
    assert load(folder / LATENTS).latents.video.shape == (1, 16, 2, 1, 1)  # of half the size
    command = said[-1].removeprefix("To decode the last good latents: ")
    assert command == f"ltx-generate --decode-only {LATENTS} -o clip.mp4"
    main(shlex.split(command)[1:])
    assert read_clip(folder / "clip.mp4").frames.shape == (9, 32, 32, 3)


def test_a_second_stage_that_goes_wrong_keeps_the_first(folder, capsys, wild):
    words = ("--pipeline", "dev-two-stage", "--steps", "2", "--distilled-lora", wild, "1e4")
    said = fails(capsys, *SMALL, *words, "-o", "clip.mp4")
    assert said[0].startswith("ltx-generate: stage 2, 64x64, step 1, video: ")
    assert load(folder / LATENTS).latents.video.shape == (1, 16, 2, 1, 1)


def test_the_very_first_step_that_goes_wrong_leaves_nothing(folder, capsys, wild):
    said = fails(capsys, *SMALL, "--lora", wild, "1e4", "-o", "clip.mp4")
    assert "stage 1, 32x32, step 1, video: " in said[0]
    assert names(folder) == ["wild"]


def test_a_disk_that_is_full_keeps_the_latents(folder, capsys, small_files):
    said = fails(capsys, *LONG, "-n", "97", "--audio", "-o", "clip.mp4")
    assert said[0] == "ltx-generate: clip.mp4: cannot be written: File too large"
    assert said[1].startswith("To decode the latents: ")
    assert names(folder) == [LATENTS]


def test_a_frame_that_is_not_finite_keeps_the_latents(folder, capsys):
    """Latents that are not finite decode to frames that are not; nothing else was found wrong."""
    video = mx.full((1, 16, 2, 2, 2), mx.nan)
    save(latents_path(Path("clip.mp4")), Saved(ClipLatents(video, None), 24.0, "tiny"))
    said = fails(capsys, "--decode-only", LATENTS, "-o", "clip.mp4")
    assert said[0] == "ltx-generate: decode: frame 0 has values that are not finite."
    assert names(folder) == [LATENTS]


def test_a_sound_that_there_is_not_is_missed_before_anything_is_decoded(folder, capsys):
    latents = ClipLatents(mx.zeros((1, 16, 2, 2, 2)), None)
    save(Path(LATENTS), Saved(latents, 24.0, "tiny"))
    said = fails(capsys, "--decode-only", LATENTS, "--output-audio", "a.wav", "-o", "a.mp4")
    assert said == [f"ltx-generate: --output-audio a.wav: {LATENTS} has no sound"]
    assert names(folder) == [LATENTS]


def test_what_a_run_was_told_of_its_model_and_outputs_still_holds(tiny, folder, capsys):
    tensors, metadata = mx.load(str(tiny / "ltx-2.3-tiny.safetensors"), return_metadata=True)
    config = json.loads(metadata["config"])
    config["vae"]["magic"] = True
    model = folder / "odd.safetensors"
    mx.save_safetensors(str(model), tensors, {**metadata, "config": json.dumps(config)})
    asked = {"prompt": "x", "model": str(model), "allow_unknown_config": ["magic"]}
    config = build({**asked, "tiling": "aggressive", "preview": True, "output_path": "clip.mp4"})
    models = Models(
        checkpoint=open_checkpoint(model, allow_unknown=["magic"]),
        gemma=None,
        upscaler=None,
        dtype=mx.float32,
    )
    clip = Unwritten(config, models, 24.0, None, comment_of(config, {}))
    video = mx.random.normal((1, 16, 2, 2, 2), key=mx.random.key(0))
    clip.keep(ClipLatents(video, None))
    command = how_to_decode("the latents", [clip]).removeprefix("To decode the latents: ")
    assert command.endswith("-o clip.mp4 --tiling aggressive --preview")
    main(shlex.split(command)[1:])
    assert {"clip.mp4", "clip.preview.png"} <= set(names(folder))


def test_sound_alone_is_decoded_to_a_wav(folder, capsys):
    audio = mx.random.normal((1, 2, 9, 16), key=mx.random.key(0))
    save(Path(LATENTS), Saved(ClipLatents(None, audio), 24.0, "tiny"))
    main(["--decode-only", LATENTS])
    assert capsys.readouterr().out == "output.wav: stereo sound at 48000 Hz\n"


def test_what_is_saved_comes_back(tmp_path):
    video = mx.random.normal((1, 16, 2, 3, 4)).transpose(0, 1, 2, 4, 3)  # not contiguous
    save(tmp_path / "a.safetensors", Saved(ClipLatents(video, None), 24000 / 1001, "a folder"))
    back = load(tmp_path / "a.safetensors")
    assert mx.array_equal(back.latents.video, video)
    assert (back.latents.audio, back.fps, back.model, back.sound) == (
        None,
        24000 / 1001,
        "a folder",
        None,
    )
    with pytest.raises(UserError, match=r"gone\.safetensors: there is no such file"):
        load(tmp_path / "gone.safetensors")
