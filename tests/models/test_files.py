"""Files that appear whole or not at all, and what killed runs leave of them."""

import os
import subprocess
import sys

import pytest

from ltx_models.errors import UserError
from ltx_models.files import check_writable, remove_unfinished, write_text


def test_only_what_killed_runs_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = os.getppid()
    names = {
        f"latents/sub/.a.safetensors.{ended.pid}.unfinished": False,
        f"latents/.a.safetensors.{os.getpid()}.unfinished": False,  # of a run that had our number
        f"latents/.a.safetensors.{living}.unfinished": True,
        "latents/.a.safetensors.unfinished": True,  # not ours
        "latents/a.safetensors": True,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path / f".state_00001.{ended.pid}.unfinished"
    folder.mkdir()
    (folder / "a.safetensors").touch()
    remove_unfinished(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert not folder.exists()
    remove_unfinished(tmp_path / "gone")


def test_only_what_the_pattern_names_is_removed(tmp_path):
    for name in ("a.txt", "b.json", "sub/c.txt"):
        hidden = (tmp_path / name).with_name(f".{(tmp_path / name).name}.{os.getpid()}.unfinished")
        hidden.parent.mkdir(exist_ok=True)
        hidden.touch()
    remove_unfinished(tmp_path, pattern=".*.txt.*.unfinished")
    left = {path.name.split(".")[1] for path in tmp_path.rglob(".*")}
    assert left == {"b", "c"}


def test_a_text_is_there_whole_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "sub/a.txt", "größe\n")
    assert (tmp_path / "sub/a.txt").read_text(encoding="utf-8") == "größe\n"
    with pytest.raises(OSError, match="Is a directory"):
        write_text(tmp_path / "sub", "a file in the place of a folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["sub", "a.txt"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "not/there/yet", name="--output-dir")
    with pytest.raises(UserError, match=r"--output-dir .*file/data: .*file is no folder that can"):
        check_writable(tmp_path / "file/data", name="--output-dir")
