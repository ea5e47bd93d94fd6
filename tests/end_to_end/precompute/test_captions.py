"""Clips without captions through ltx-precompute: each gets one, once, and a person's stays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ltx_models.weights import TensorFile
from ltx_train.precompute.cli import main
from ltx_train.precompute.text import KEPT
from tests.train.captions.tiny_vlm import WORDS, write_vlm
from tests.train.conftest import write_pair

BY_A_PERSON = "a red boat, by a person\n"
WORDS_OF_ALL = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data")


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path / "clips", "a.mp4", caption=BY_A_PERSON.encode())
    write_pair(tmp_path / "clips", "sub/größe.mov", caption=None)
    return tmp_path


def run(*words: str) -> None:
    buckets = ("--resolution-buckets", "64x32x9")
    main([*WORDS_OF_ALL, *buckets, "--caption", "--trigger", "sks", *words])


def texts(folder: Path) -> dict[str, str]:
    found = sorted((folder / "clips").rglob("*.txt"))
    return {path.stem: path.read_text(encoding="utf-8") for path in found}


def test_captions_from_a_model_to_what_is_encoded(folder, capsys):
    write_vlm(folder / "vlm")
    run("--dry-run", "--caption-model", "gone")
    said = capsys.readouterr().out
    assert "(to be written)" in next(line for line in said.splitlines() if "größe" in line)
    assert texts(folder) == {"a": BY_A_PERSON}

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = folder / "clips/sub" / f".größe.txt.{ended.pid}.unfinished"
    left.touch()  # by a run that was killed
    run("--caption-model", "vlm")
    assert not left.exists()
    captions = texts(folder)
    assert captions["a"] == BY_A_PERSON
    assert {*captions["größe"].split()} <= {*WORDS}
    encoded = [f"sks {captions[stem].strip()}" for stem in ("a", "größe")]
    for stem, caption in zip(("a", "sub/größe"), encoded, strict=True):
        about = TensorFile(folder / f"data/conditions/{stem}.safetensors").metadata
        assert (about["caption"], about["trigger"]) == (caption, "sks")
    text = (folder / "data/manifest.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["caption"] for line in text.splitlines()] == encoded

    capsys.readouterr()
    run("--caption-model", "gone", "--debug")  # which is not asked again
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"done: a.mp4: {KEPT}")
    assert said[2].startswith(f"done: sub/größe.mov: {KEPT}")
    assert texts(folder) == captions
