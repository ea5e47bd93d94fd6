"""What a program that runs ltx-generate reads, and that a pipe stays plain."""

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from pydantic import ValidationError

from ltx_infer.cli import main
from ltx_infer.decode import Written
from ltx_infer.events import EVENTS, Note, reporting, schema_text, write_event
from ltx_infer.pipeline.extras import Beside
from ltx_infer.plan.parts import Part
from ltx_infer.plan.plan import Plan

SCHEMA = Path(__file__).parents[2] / "docs" / "events.schema.json"
COMMAND = Path(sys.executable).with_name("ltx-generate")
SMALL = ("--model", "tiny", "-p", "a b\x1b[31moat\t\u00e9", "--audio", "-H", "64", "-W", "64")
SMALL += ("--one-stage", "--dummy-embeddings", "--steps", "3", "-n", "9")
EVENTS_OF_A_STAGE = ["stage_begin", "step", "stage_end"]


def events_of(text: str) -> list[dict]:
    """Every line as an event that the schema allows, as a program reads it."""
    for line in text.splitlines():
        EVENTS.validate_json(line, strict=True)
    return [json.loads(line) for line in text.splitlines()]


def test_the_schema_in_the_docs_is_that_of_the_events():
    """Written anew by: python -c "from ltx_infer.events import *; print(schema_text(), end='')"."""
    assert SCHEMA.read_text() == schema_text()
    kinds = json.loads(schema_text())["discriminator"]["mapping"]
    assert set(kinds) >= {"started", "note", "step", "written", "finished", "error"}


def test_an_event_of_another_form_is_none():
    for line in ('{"event": "note", "time": 1.0}', '{"event": "news", "time": 1.0, "text": ""}'):
        with pytest.raises(ValidationError):
            EVENTS.validate_json(line)


def test_an_event_is_one_line_of_ascii():
    stream = StringIO()
    write_event(Note(text="a\n\x1b[31m\u00e9\U0001f30a\x07"), stream)
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == "a\n\x1b[31m\u00e9\U0001f30a\x07"


@pytest.fixture(scope="module")
def piped(tiny, tmp_path_factory) -> tuple[Path, tuple[bytes, bytes], tuple[bytes, bytes]]:
    """A folder, and stdout and stderr of the real command, without and with --json."""
    folder = tmp_path_factory.mktemp("piped")
    env = {**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    words = [[*SMALL, "-o", "plain.mp4"], [*SMALL, "--preview", "-o", "told.mp4", "--json"]]
    runs = [
        subprocess.Popen(
            [COMMAND, *each],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for each in words
    ]
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    return folder, *said


def test_a_pipe_gets_no_control_characters(piped):
    _, *said = piped
    for stdout, stderr in said:
        assert stdout
        assert stderr
        assert not {byte for byte in stdout + stderr if byte < 32} - {ord("\n")}


def test_stages_are_lines_in_a_pipe(piped):
    _, (stdout, stderr), _ = piped
    assert stdout == b"plain.mp4: 9 frames, stereo sound at 48000 Hz\n"
    stages = [line.split(b":")[0] for line in stderr.splitlines()]
    assert stages[-5:] == [b"text", b"sampling, 64x64", b"sound", b"decode", b"memory"]
    assert b"sampling, 64x64: 3 steps, " in stderr
    assert b" s a step, peak " in stderr


def test_every_event_of_a_run_is_in_the_schema(piped):
    folder, _, (stdout, stderr) = piped
    events = events_of(stdout.decode())
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds) == {
        *("started", "note", "plan", "written", "finished"),
        *EVENTS_OF_A_STAGE,
    }
    assert events[0]["configs"][0]["prompt"] == SMALL[3]
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert all(note in stderr.decode() for note in notes)
    assert b"told.mp4: 9 frames" in stderr
    assert events[-1]["paths"] == ["told.mp4"]
    assert events[-1]["peak_bytes"] >= max(e.get("peak_bytes", 0) for e in events)
    files = {event["kind"]: event for event in events if event["event"] == "written"}
    assert files.keys() == {"clip", "preview"}
    assert (files["clip"]["num_frames"], files["clip"]["sampling_rate"]) == (9, 48000)
    assert all((folder / event["path"]).is_file() for event in files.values())


def test_a_stage_begins_goes_on_and_ends(piped):
    _, _, (stdout, _) = piped
    events = [e for e in events_of(stdout.decode()) if e.get("stage") == "sampling, 64x64"]
    assert [e["event"] for e in events] == ["stage_begin", *["step"] * 3, "stage_end"]
    assert [e["steps"] for e in events] == [3] * 5
    assert [e["step"] for e in events[1:-1]] == [1, 2, 3]  # the last one, too
    assert events[-2]["seconds_left"] == 0
    assert events[-1]["peak_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json",), "--prompt is required"),
        (("-p", "x", "--json", "-H", "65"), "--height 65 is not a multiple of 64. This fits:"),
        (("-p", "x", "--json", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("--json", "--dry-run", "--download-only"), "--download-only and --dry-run: one of them"),
        (("-p", "x", "--json", "-o", "gone/a.mp4"), "gone/a.mp4: there is no folder gone"),
    ],
)
def test_what_cannot_be_made_is_an_event_too(tiny, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--model", "tiny", *words])
    out, err = capsys.readouterr()
    *_, last = events_of(out)
    assert (last["event"], last["exit_code"]) == ("error", ended.value.code)
    assert ended.value.code == 2
    assert last["message"].startswith(said)
    assert f"ltx-generate: {said}" in err


def test_a_name_that_would_control_a_terminal_is_shown_harmless(tiny, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--model", "tiny", "-p", "x", "-o", str(tmp_path / "\x1b[2J" / "a.mp4"), "--json"])
    out, err = capsys.readouterr()
    assert "\\x1b[2J/a.mp4: there is no folder" in err
    assert err.replace("\n", "").isprintable()
    assert "\x1b[2J/a.mp4" in events_of(out)[-1]["message"]


def test_all_that_is_said_is_told(capsys):
    with reporting(events=True) as to:
        to.say("two\nlines \x1b[1m")
        to.planned(Plan((Part("text", weights=5, work=2), Part("decode", 1, 3))), 9)
        to.report("text", 0, 1)
        to.report("text", 1, 1)
        sys.stdout.write("what a library prints\n")
        to.written(Written(Path("a.mp4"), 9, None, (Beside(Path("a_frames"), "frames"),)))
        to.written(Written(Path("a.latents.safetensors"), 0, None, kind="latents"))
        to.missing(Path("b.mp4"), "grey")
        to.failed("1 of 2 clips are missing", 1)
    out, err = capsys.readouterr()
    events = events_of(out)
    assert [event["event"] for event in events] == [
        "note",
        "plan",
        *EVENTS_OF_A_STAGE,
        *["written"] * 3,
        "missing",
        "error",
    ]
    assert events[0]["text"] == "two\nlines \x1b[1m"
    assert (events[1]["peak_bytes"], events[1]["limit_bytes"]) == (7, 9)
    assert events[1]["parts"][1] == {"name": "decode", "weight_bytes": 1, "work_bytes": 3}
    assert err.startswith("two\nlines \\x1b[1m\ntext: ")
    assert err.endswith("what a library prints\n")


def test_without_events_stdout_is_the_commands(capsys):
    with reporting(events=False) as to:
        to.say("a note")
        to.started("ltx-generate", [])
        to.finished([])
    assert capsys.readouterr() == ("", "a note\n")


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so(tiny, tmp_path, by, code):
    words = [*SMALL[:-4], "--pipeline", "dev", "--steps", "200", "-n", "33", "--json"]
    with subprocess.Popen(
        [COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        while '"step": 2' not in (line := run.stdout.readline()):
            assert line, "it ended"
        run.send_signal(by)
        *_, last = events_of(run.stdout.read())
        assert run.wait() == code
    assert (last["event"], last["exit_code"]) == ("error", code)
    assert last["message"].splitlines()[0] == "stopped"
    assert not any(tmp_path.iterdir())
