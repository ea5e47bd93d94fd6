"""--dry-run: what a run would do, without doing it."""

import pytest

from ltx_infer import cli
from ltx_infer.config import build
from ltx_infer.hub.fetch import to_fetch
from ltx_infer.hub.place import Place, Wanted
from ltx_infer.plan.dry_run import UNKNOWN, dry_run

SMALL = {"model": "tiny", "prompt": "a boat", "height": 64, "width": 64, "num_frames": 9}


def lines_of(**asked) -> list[str]:
    return dry_run([build({**SMALL, **asked})], say=lambda line: None)


def test_files_stages_and_memory(tiny):
    lines = lines_of(pipeline="dev-two-stage", stg_scale=1.0)
    assert lines[0] == "files:"
    names = [line.split(":")[0].rpartition("/")[2] for line in lines[1:5]]
    assert names[:2] == ["ltx-2.3-tiny.safetensors", "gemma-3-tiny"]
    assert any("distilled-lora" in name for name in names)
    assert "stage 1: 2 video tokens, 30 steps, 3 passes, 3 at once a step" in lines
    assert "stage 2: 8 video tokens, 3 steps, 1 pass a step" in lines
    parts = [line.split("  ")[1] for line in lines if "at work" in line]
    assert parts[:2] == ["text encoder", "text features"]
    assert parts[-1] == "decode"
    assert lines[-1].startswith("in all ")
    assert lines[-1].endswith("that a run may take here")


def test_what_does_not_fit_is_said_and_what_would(tiny, monkeypatch):
    memory = type("Memory", (), {"total": 10**7})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert lines_of()[-1].startswith("that does not fit. --text-encoder-repo")


def test_nothing_is_made(tiny, tmp_path, capsys):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    cli.main([*words, "-o", str(tmp_path / "out.mp4"), "--dry-run"])
    said = capsys.readouterr().out
    assert "expected peak of memory, by part:" in said
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_here_are_not_to_be_fetched(tmp_path):
    place = Place(str(tmp_path), {"a.safetensors": None}, tmp_path)
    assert to_fetch([Wanted(place, ("a.safetensors",))]) == []
    assert "--download-only" in UNKNOWN


@pytest.mark.parametrize("flag", ["--force", "--dry-run"])
def test_both_are_flags(flag, capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert flag in capsys.readouterr().out
