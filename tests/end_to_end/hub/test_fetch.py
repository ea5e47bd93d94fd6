"""Models by their names on a hub of our own, with the real huggingface_hub in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import read_clip
from tests.end_to_end.hub.server import TOKEN, Hub, serving

ROOT = Path(__file__).parents[3]
SIZE = ("--prompt", "waves", "--width", "64", "--height", "64", "--num-frames", "9")
MODEL = "ltx-2.3-tiny.safetensors"
X2 = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
LORA = "ltx-2.3-tiny-distilled-lora-4.safetensors"
GEMMA = [
    f"gemma-3-tiny/{name}"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
]
CHUNK = 10 * 1024 * 1024  # what huggingface_hub takes at once


@pytest.fixture(scope="module")
def server():
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tiny: Path) -> Hub:
    """With the stand-in as one repository, and a gated twin."""
    files = {
        p.relative_to(tiny).as_posix(): p.read_bytes() for p in tiny.rglob("*.*") if p.is_file()
    }
    files["README.md"] = b"not needed"
    server.repositories.update({"you/tiny": files, "you/gated": dict(files)})
    server.gated.add("you/gated")
    server.repositories["you/loras"] = {LORA: files[LORA], "other.safetensors": b"x" * 2048}
    for kept in (server.cuts, server.claimed, server.sent):
        kept.clear()
    return server


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    out = {"HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"}
    return {
        **{name: value for name, value in os.environ.items() if name not in out},
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",  # whose server is another
        "NO_PROXY": "127.0.0.1",
        **more,
    }


def command(*words: object, module: str = "ltx_infer.cli") -> list[str]:
    start = "import sys; from {} import main; main(sys.argv[1:])"
    return [sys.executable, "-c", start.format(module), *map(str, words)]


def run(hub: Hub, home: Path, *words: object, module: str = "ltx_infer.cli", **more: str):
    return subprocess.run(
        command(*words, module=module),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(hub, home, **more),
    )


def needed(*names: str) -> list[str]:
    return sorted(f"you/tiny/{name}" for name in (MODEL, *GEMMA, *names))


def test_a_first_run_resumes_and_a_second_fetches_nothing(hub, tmp_path):
    words = ("--model", "you/tiny", *SIZE, "--pipeline", "dev-two-stage", "--download-only")
    hub.cuts[MODEL] = [CHUNK + 5]
    done = run(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert [each.start for each in hub.sent if each.name == MODEL] == [0, CHUNK]
    assert hub.fetched() == needed(X2, LORA)
    first, second, *_ = done.stderr.splitlines()
    assert first == "to fetch from you/tiny: 7 files, 16.5 MB"
    assert second == f"  {MODEL}: 15.8 MB"
    assert done.stdout.endswith(f"{MODEL}: 7 files fetched\n")
    done = run(hub, tmp_path, *words)
    assert hub.fetched() == []
    assert done.returncode == 0
    assert "to fetch" not in done.stderr
    assert done.stdout.endswith(f"{MODEL}: nothing to fetch\n")


@pytest.mark.slow
def test_a_clip_of_a_model_on_the_hub(hub, tmp_path):
    clip = tmp_path / "a.mp4"
    done = run(hub, tmp_path, "--model", "you/tiny", *SIZE, "--one-stage", "-o", clip)
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == needed()
    offline = run(
        hub, tmp_path, "--model", "you/tiny", *SIZE, "--one-stage",
        "-o", tmp_path / "c.mp4", HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert offline.returncode == 0, offline.stderr
    assert (read_clip(tmp_path / "c.mp4").frames == read_clip(clip).frames).all()


@pytest.mark.slow
def test_a_killed_run_goes_on(hub, tmp_path):
    words = ("--model", "you/tiny", *SIZE, "--one-stage", "--download-only")
    hub.cuts[MODEL] = [CHUNK + 5] + [0] * 1000
    process = subprocess.Popen(command(*words), cwd=ROOT, env=environment(hub, tmp_path))
    while not list((tmp_path / "hf").glob("hub/*/blobs/*.incomplete")) or len(hub.sent) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.cuts.clear()
    hub.sent.clear()
    done = run(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert f"  {MODEL}: 15.8 MB, 10.5 MB of it here" in done.stderr.splitlines()
    assert [each.start for each in hub.sent if each.name == MODEL] == [CHUNK]


@pytest.mark.slow
def test_what_cannot_be_fetched_is_one_line(hub, tmp_path):
    done = run(hub, tmp_path, "--model", "you/gated", *SIZE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"ltx-generate: --model you/gated: accept its licence at {hub.address}/you/gated, then "
        "give your token: `hf auth login`, --token TOKEN or HF_TOKEN\n"
    )
    assert hub.fetched() == []


@pytest.mark.slow
def test_a_token_opens_what_is_gated(hub, tmp_path):
    words = ("--model", "you/gated", *SIZE, "--one-stage", "--download-only", "--token", TOKEN)
    done = run(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_missing_small_disk_and_no_network(hub, tmp_path):
    done = run(hub, tmp_path, "--model", "you/gone", *SIZE)
    assert done.returncode == 2
    assert done.stderr == (
        "ltx-generate: --model you/gone: no such file or folder, and no such repository on the "
        "hub. If it is a private one: `hf auth login`, --token TOKEN or HF_TOKEN\n"
    )
    hub.claimed[MODEL] = 10**18
    done = run(hub, tmp_path, "--model", "you/tiny", *SIZE)
    assert done.returncode == 2
    assert "(1000000000" in done.stderr
    assert " bytes) are free there.\nMake room, or name" in done.stderr
    assert hub.fetched() == []
    done = run(hub, tmp_path, "--model", "you/tiny", *SIZE, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "it is not on this machine, and http://127.0.0.1:9 cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) <= 4


@pytest.mark.slow
def test_loras_are_listed_and_used(hub, tmp_path):
    done = run(hub, tmp_path, "--list-lora-files", "you/loras")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{LORA}  143 kB",
        f"{'other.safetensors':{len(LORA)}}  2.0 kB",
    ]
    clip = tmp_path / "a.mp4"
    done = run(
        hub, tmp_path, "--model", "tiny", *SIZE, "--one-stage", "-o", clip,
        "--lora", f"you/loras::{LORA}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == [f"you/loras/{LORA}"]


@pytest.mark.slow
def test_training_and_precomputing_fetch_too(hub, tmp_path):
    (tmp_path / "prompts.txt").write_text("a boat\n")
    words = ("--prompts-only", "--prompts-file", tmp_path / "prompts.txt", "--model", "you/tiny")
    done = run(
        hub, tmp_path, *words, "--output-dir", tmp_path / "data", module="ltx_train.precompute.cli"
    )
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == needed()
    again = tmp_path / "again"
    again.mkdir()
    config = again / "lora.yaml"
    config.write_text(
        "model: {model_path: you/tiny}\nlora: {rank: 4}\ndata: {preprocessed_data_root: null}\n"
        f"output_dir: {again / 'out'}\n"
    )
    done = run(hub, again, "--config", config, "--dry-run", "--debug", module="ltx_train.cli")
    assert done.returncode == 0, done.stderr
    assert f"you/tiny/{MODEL}" in hub.fetched()
