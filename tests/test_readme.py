"""README and docs/ are true: commands run, tables give the defaults, the map is whole."""

import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from ltx_infer import cli, convert_cli, lora_cli, upscale_cli
from ltx_infer.combinations import GUIDED
from ltx_infer.config import GenerateConfig
from ltx_infer.flags import GROUPS, add_flags
from ltx_infer.pipeline.recipes import DEFAULT_STEPS, HQ_STEPS
from ltx_infer.sampling.guidance import HQ, LTX_2, LTX_2_3
from ltx_infer.sampling.sigmas import DISTILLED
from ltx_train import cli as train_cli
from ltx_train.precompute import cli as precompute_cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPTIONS = (ROOT / "docs" / "options.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("ltx_models", "ltx_infer", "ltx_train")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = {
    "ltx-convert": convert_cli.main,
    "ltx-generate": cli.main,
    "ltx-lora": lora_cli.main,
    "ltx-precompute": precompute_cli.main,
    "ltx-train": train_cli.main,
    "ltx-upscale": upscale_cli.main,
}
SMALL, SHORT = ["-H", "64", "-W", "128"], ["--steps", "2"]  # put over a command's own
OF_A_CLIP = ("retake", "extend", "t2a")  # which take no size
# Fields without a default of their own, where something further on has one.
LATER = {
    "steps": f"{DEFAULT_STEPS}, HQ {HQ_STEPS}, distilled {len(DISTILLED) - 1}",
    "cfg_rescale": f"{LTX_2['video'].rescale}, HQ {HQ['video'].rescale}",
    "stg_blocks": f"block {LTX_2['video'].stg_blocks[0]} of 48, "
    f"LTX-2.3: {LTX_2_3['video'].stg_blocks[0]}",
    "max_batch_size": "by the memory",
}


def runs_on_tiny(kind: str, text: str) -> bool:
    """Whether a block is tasks to run, and not set-up or what needs a run that was stopped."""
    is_other = "pip install" in text or "--decode-only" in text
    return kind in ("python", "yaml") or (kind == "sh" and not is_other)


def smaller(words: list[str]) -> list[str]:
    """A command of ltx-generate at a size that takes a second."""
    if "--info" in words:
        return words
    given = dict(pairwise(words)).get("--pipeline", "distilled")
    short = SHORT if given in GUIDED else []
    return [*words, *([] if given in OF_A_CLIP else SMALL), *short]


def run_line(line: str) -> None:
    name, *words = shlex.split(line)
    if name not in COMMANDS:
        subprocess.run(["bash", "-c", line], check=True)
        return
    COMMANDS[name](smaller(words) if name == "ltx-generate" else words)
    if "-o" in words and "--count" not in words:
        assert Path(words[words.index("-o") + 1]).stat().st_size > 1000


@pytest.mark.slow
def test_all_that_runs_on_tiny_runs_as_it_stands(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for kind, text in FENCES:
        if not runs_on_tiny(kind, text):
            continue
        if kind == "python":
            exec(compile(text, "README.md", "exec"), {})
            continue
        if kind == "yaml":  # a file, whose name is in its first line
            Path(text.split()[1]).write_text(text)
            continue
        for line in text.splitlines():
            run_line(line)
    assert len(list(tmp_path.glob("*.mp4"))) > 15


def test_other_commands_parse():
    parser = cli.Parser(allow_abbrev=False)
    add_flags(parser)
    others = [text for kind, text in FENCES if kind == "sh" and not runs_on_tiny(kind, text)]
    lines = [line.split(" && ")[-1] for text in others for line in text.splitlines()]
    found = [line for line in lines if line.startswith("ltx-")]
    assert len(found) == 2  # the first command, and --decode-only
    for line in found:
        name, *words = shlex.split(line)
        assert name == "ltx-generate"
        parser.parse_args(words)


def rows() -> dict[str, str]:
    """The default that the tables give, by a flag's first name."""
    text = OPTIONS.split("## ltx-generate\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(--[\w-]+)`[^|]*\|([^|]*)\|[^|]*\|$", text, re.MULTILINE)
    assert found
    return {name: default.strip() for name, default in found}


@pytest.mark.parametrize("name", [flag.names[0] for flags in GROUPS.values() for flag in flags])
def test_a_flag_is_in_the_tables_with_its_default(name):
    said, field = rows()[name], name.removeprefix("--").replace("-", "_")
    if field not in GenerateConfig.model_fields:  # what makes no clip, and what no clip stores
        assert said in ("", "off", "1")
        return
    found = GenerateConfig.model_fields[field]
    if found.default == "":  # the prompt, which may come from elsewhere
        assert said == "required"
    elif found.default is None or found.default is False or found.default == ():
        assert said == LATER.get(field, said)
        assert "`" not in said
    else:
        number = isinstance(found.default, float)
        assert said == f"`{found.default:{'g' if number else ''}}`"


def test_every_flag_of_training_is_in_its_table(capsys):
    with pytest.raises(SystemExit):
        train_cli.main(["--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--config", "--resume", "--hub-push"} <= flags
    table = OPTIONS.split("## ltx-train\n")[1]
    assert flags == set(re.findall(r"`(--[\w-]+)", table))


def test_every_flag_of_ltx_convert_is_in_its_table(capsys):
    with pytest.raises(SystemExit):
        convert_cli.main(["--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--source", "--bits", "--overwrite"} <= flags
    table = OPTIONS.split("## ltx-convert\n")[1].split("\n## ")[0]
    assert flags == set(re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE))


def test_every_flag_of_ltx_upscale_is_in_its_table(capsys):
    with pytest.raises(SystemExit):
        upscale_cli.main(["--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--input", "--temporal", "--refine"} <= flags
    table = OPTIONS.split("## ltx-upscale\n")[1].split("\n## ")[0]
    assert flags == set(re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE))


def test_every_flag_of_ltx_lora_is_in_its_table(capsys):
    flags = set()
    for command in ("inspect", "convert", "fuse"):
        with pytest.raises(SystemExit):
            lora_cli.main([command, "--help"])
        said = capsys.readouterr().out
        assert f"`{command}" in OPTIONS
        flags |= set(re.findall(r"^  (--[\w-]+)", said, re.MULTILINE))
    assert {"--json", "--repair", "--fuse-anyway"} <= flags
    table = OPTIONS.split("## ltx-lora\n")[1].split("\n## ")[0]
    assert flags == set(re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_pages_are_there(page):
    links = re.findall(r"\]\(((?!https?://|#)[^)]+)\)", page.read_text())
    found = [(page.parent / link.split("#")[0]).resolve() for link in links]
    assert [path for path in found if not path.is_file()] == []
    pictures = [path for path in found if path.suffix == ".png"]
    assert all(picture.stat().st_size < 200_000 for picture in pictures)


def test_sections_that_are_linked_to_are_there():
    links = re.findall(r"\]\(#([^)]+)\)", README)
    links += re.findall(r"README\.md#([^)]+)\)", "".join(page.read_text() for page in PAGES))
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    assert len(links) > 2
    assert set(links) <= {title.lower().replace(" ", "-") for title in titles}


def test_map_has_every_file_and_no_other():
    text = next(text for _, text in FENCES if text.startswith("ltx_models/"))
    parts = re.split(r"^ {0,2}(\w+)/ ", text.split("\nconfigs/")[0], flags=re.MULTILINE)
    mapped = {
        (folder, name)
        for folder, part in zip(parts[1::2], parts[2::2], strict=True)
        for name in re.findall(r"\w+\.py", part)
    }
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert mapped == {(path.parent.name, path.name) for path in files} - {
        (path.parent.name, "__init__.py") for path in files
    }
