"""ltx-upscale as a command: what it says, and how it ends."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ltx_infer.events import EVENTS
from ltx_infer.upscale_cli import main


@pytest.fixture
def picture(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((40, 24)).save("a.png")
    return Path("a.png")


def test_it_says_what_it_made(picture, capsys):
    main(["--model", "tiny", "--input", "a.png", "--output", "b.png"])
    assert capsys.readouterr().out == "b.png: 80x48\n"


def test_events(picture, capsys):
    main(["--model", "tiny", "-i", "a.png", "-o", "b.jpg", "--scale", "1.5", "--json"])
    events = [EVENTS.validate_json(line) for line in capsys.readouterr().out.splitlines()]
    names = [event.event for event in events]
    assert (names[0], names[-2:]) == ("started", ["written", "finished"])
    assert events[0].configs[0]["scale"] == 1.5
    assert (events[-2].path, events[-2].kind) == ("b.jpg", "picture")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "a.png"], "--output is required"),
        (["-i", "a.png", "-o", "b.png", "--scal", "2"], "--scal 2; did you mean --scale?"),
        (["-i", "a.png", "-o", "b.png", "--scale", "3"], "the latent upscalers have 2 and 1.5"),
        (["-i", "a.png", "-o", "b.mp4"], "the name of a picture ends in .png, .webp, .jpg, .jpeg"),
        (["-i", "gone.mp4", "-o", "b.mp4"], "gone.mp4: there is no such file"),
        (["-i", "a.png", "-o", "a.png"], "--output a.png: is the input"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(picture, capsys, words, said):
    with pytest.raises(SystemExit) as end:
        main(["--model", "tiny", *words, "--json"])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("ltx-upscale: ")
    assert said in err
    assert err.count("\n") == 1
    assert json.loads(out.splitlines()[-1])["exit_code"] == 2
    assert sorted(path.name for path in Path().iterdir()) == ["a.png"]
