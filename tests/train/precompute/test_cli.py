"""The command line of ltx-precompute: bad input, exit codes, the summary, --dry-run."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ltx_train.precompute import cli
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.flags import GROUPS, add_flags
from tests.train.conftest import write_pair

BUCKETS = ("--resolution-buckets", "64x32x9")
FOLDERS = ("--input-dir", "clips", "--output-dir", "data")
TINY = ("--model", "tiny")
HALF_THE_FRAMES = ("--reference-dir", "empty", "--reference-temporal-scale-factor", "2")
PROMPTS = ("--prompts-only", "--prompts-file", "prompts.txt", "--output-dir", "data")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    """A folder with a clip and prompts in it, to work in."""
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path / "clips", "a.mp4")
    (tmp_path / "prompts.txt").write_text("a.mp4|a boat")
    (tmp_path / "table.csv").write_text("clip,text\na.mp4,a boat\n")
    (tmp_path / "latin.csv").write_text("video,caption\na,gr\u00fcn\n", encoding="latin-1")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Nothing, or too little
        ([], "the following arguments are required: --output-dir"),
        (["--output-dir", "data"], "name what to encode: --input-dir DIR, --dataset NAME or"),
        ([*FOLDERS], "required: --resolution-buckets, as 832x480x73 (width, height, frames)"),
        # Words
        ([*FOLDERS, *BUCKETS, "--overwritte"], "did you mean --overwrite?"),
        ([*FOLDERS, *BUCKETS, "clips2"], "unrecognized arguments: clips2"),
        ([*FOLDERS, *BUCKETS, "--crop", "middle"], "--crop/--reshape-mode: invalid choice: 'mid"),
        ([*FOLDERS, *BUCKETS, "--fps", "0"], "--fps/--frame-rate: 0: 1 to 1000 frames a second"),
        ([*FOLDERS, *BUCKETS, "--fps", "nan"], "nan: 1 to 1000 frames a second would fit"),
        ([*FOLDERS, *BUCKETS, "--fps", "fast"], "--fps/--frame-rate: fast: 1 to 1000"),
        ([*FOLDERS, *BUCKETS, "--reference-downscale-factor", "0"], "0: a whole number from 1 on"),
        ([*FOLDERS, *BUCKETS, "--reference-temporal-scale-factor", "1.5"], "1.5: a whole"),
        ([*FOLDERS, *BUCKETS, "--trigger", " "], "--trigger: it is empty; a word is wanted"),
        ([*FOLDERS, *BUCKETS, "--model", ""], "--model: it is empty"),
        ([*FOLDERS, "--resolution-buckets", "64x32"], "'64x32' is no WIDTHxHEIGHTxFRAMES"),
        (
            [*FOLDERS, *TINY, "--resolution-buckets", "64x32x8"],
            "--resolution-buckets 64x32x8: width and height are multiples of 32, frames",
        ),
        # Flags that mean nothing together
        (
            [*FOLDERS, *BUCKETS, "--dataset", "x"],
            "--dataset does not go with --input-dir: it takes",
        ),
        (
            ["--output-dir", "data", *BUCKETS, "--dataset", "x", "--prompts-file", "prompts.txt"],
            "--dataset does not go with --prompts-file: its captions are in its tables",
        ),
        ([*PROMPTS, "--input-dir", "clips"], "--prompts-only does not go with --input-dir: there"),
        ([*PROMPTS, *BUCKETS, "--with-audio"], "with --resolution-buckets, --with-audio: there"),
        (["--prompts-only", "--output-dir", "data"], "the prompts are in a --prompts-file FILE"),
        ([*FOLDERS, *BUCKETS, "--negative-prompt", "x"], "for --prompts-only; it needs --prompts-"),
        ([*FOLDERS, *BUCKETS, "--caption-model", "x"], "--caption-model: for --caption; it needs"),
        ([*FOLDERS, *BUCKETS, "--caption-column", "x"], "it needs --prompts-file or --dataset"),
        (
            [*FOLDERS, *BUCKETS, "--reference-downscale-factor", "2"],
            "of references; it needs --reference-dir or --prompts-file or --dataset",
        ),
        (
            [*FOLDERS, *BUCKETS, "--audio-mask-dir", "clips"],
            "--audio-mask-dir: masks of latents that are not made; it needs --with-audio",
        ),
        (
            [*FOLDERS, "--resolution-buckets", "64x32x17;32x64x17", *HALF_THE_FRAMES],
            "--reference-temporal-scale-factor 2: it needs a single bucket, and --resolution-",
        ),
        (
            [*FOLDERS, *BUCKETS, *TINY, *HALF_THE_FRAMES],
            "the frames of a bucket are then a multiple of 16 plus 1, not 64x32x9",
        ),
        # Models
        ([*FOLDERS, *BUCKETS, "--model", "gone"], "--model gone: "),
        ([*FOLDERS, *BUCKETS, "--model", "prompts.txt"], "prompts.txt: not a complete safetensors"),
        ([*FOLDERS, *BUCKETS, *TINY, "--text-encoder-repo", "gone"], "gone"),
        # Files and folders
        (
            ["--input-dir", "gone", *FOLDERS[2:], *BUCKETS, *TINY],
            "--input-dir gone: there is no su",
        ),
        (["--input-dir", "empty", *FOLDERS[2:], *BUCKETS, *TINY], "--input-dir empty: no clip or"),
        (["--input-dir", "prompts.txt", *FOLDERS[2:], *BUCKETS, *TINY], "there is no such folder"),
        ([*FOLDERS[:3], "clips", *BUCKETS, *TINY], "--output-dir clips: it is --input-dir"),
        ([*FOLDERS[:3], "prompts.txt", *BUCKETS, *TINY], "prompts.txt is no folder that can be wr"),
        ([*FOLDERS, *BUCKETS, *TINY, "--reference-dir", "gone"], "--reference-dir gone: there is"),
        (
            [*FOLDERS, *BUCKETS, *TINY, "--prompts-file", "gone.csv"],
            "gone.csv: there is no such fi",
        ),
        ([*FOLDERS, *BUCKETS, *TINY, "--prompts-file", "latin.csv"], "latin.csv is not UTF-8 text"),
        (
            [*FOLDERS, *BUCKETS, *TINY, "--prompts-file", "table.csv", "--caption-column", "said"],
            "--caption-column said: table.csv has clip, text",
        ),
        (
            ["--output-dir", "data", *BUCKETS, *TINY, "--dataset", "empty"],
            "--dataset empty: The directory at ",
        ),
        ([*PROMPTS[:2], "gone.txt", *PROMPTS[3:], *TINY], "gone.txt: there is no such file"),
    ],
)
def test_bad_input(folder, capsys, words, said):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith("ltx-precompute: ")
    assert len(message.splitlines()) <= 4
    assert said in message
    assert sorted(folder.rglob("*")) == before


def test_a_flag_is_a_field_with_its_default():
    names = {flag.field for flags in GROUPS.values() for flag in flags}
    assert names == {field.name for field in fields(PrecomputeConfig)}


def test_the_docs_have_every_flag():
    docs = (Path(__file__).parents[3] / "docs/options.md").read_text()
    table = docs.split("| ltx-precompute | default | meaning |")[1].split("\n\n")[0]
    names = [re.findall(r"`(--[\w-]+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    flags = [flag.names[0] for flags in GROUPS.values() for flag in flags]
    assert sorted(name for row in names for name in row) == sorted(flags)


def test_aliases_of_the_public_trainer():
    parser = cli.Parser()
    add_flags(parser)
    words = ["--model-path", "m", "--gemma-root", "g", "--lora-trigger", "t", "--reshape-mode"]
    given = vars(parser.parse_args(["--output-dir", "o", *words, "random", "--frame-rate", "25"]))
    assert given.keys() == {"output_dir", "model", "text_encoder_repo", "trigger", "crop", "fps"}


def test_debug_shows_where_an_error_came_from(folder, capsys):
    with pytest.raises(SystemExit):
        cli.main([*FOLDERS, *BUCKETS, "--model", "gone", "--debug"])
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("ltx-precompute: --model gone: ")


def test_a_dry_run_says_what_it_saw_and_writes_nothing(folder, capsys):
    write_pair(folder / "clips", "b.mp4", frames=4)
    before = sorted(folder.rglob("*"))
    cli.main([*FOLDERS, *BUCKETS, *TINY, "--dry-run", "--overwrite", "--preview"])
    assert sorted(folder.rglob("*")) == before
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 clips, 0 stills, 1 left out"
    assert said[-1] == "skipped: b.mp4: too short: 4 frames at 24 a second, 64x32x9 needs 9"
    (folder / "clips" / "c.mp4").write_text("no video")
    (folder / "clips" / "c.txt").write_text("a caption")
    with pytest.raises(SystemExit) as end:
        cli.main([*FOLDERS, *BUCKETS, *TINY, "--dry-run"])
    assert end.value.code == 1


def test_a_failed_clip_shows_in_the_exit_code(folder, capsys):
    (folder / "clips" / "a.mp4").write_text("no video")
    with pytest.raises(SystemExit) as end:
        cli.main([*FOLDERS, *BUCKETS, *TINY])
    assert end.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "data: 0 done, 0 skipped, 1 failed"
    assert said[1].startswith("failed: a.mp4: not a video")


def test_the_summary_names_what_is_not_plainly_done(folder, capsys):
    cli.main([*FOLDERS, *BUCKETS, *TINY])
    first = capsys.readouterr()
    assert first.out == "data: 1 done, 0 skipped, 0 failed\n"
    assert first.err.startswith("1 clips, 0 stills, 0 left out\n")
    cli.main([*FOLDERS, *BUCKETS, *TINY, "--debug"])
    assert capsys.readouterr().out.splitlines()[1] == "done: a.mp4: kept, as nothing changed"


def test_help_imports_nothing_heavy():
    heavy = ["mlx", "mlx.core", "av", "transformers", "numpy", "pydantic", "rich", "datasets"]
    code = (
        "import sys\n"
        "from ltx_train.precompute.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
