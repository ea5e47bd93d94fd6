import pytest

from ltx_models.errors import UserError
from ltx_train.inputs.items import find_clips


@pytest.fixture
def folder(tmp_path):
    """A folder of empty files; captions have text."""

    def make(*names: str):
        for name in names:
            path = tmp_path / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(" its caption\n" if path.suffix == ".txt" else "")
        return tmp_path / "clips"

    return make


def test_every_file_has_its_place(folder, tmp_path):
    clips, outcomes = find_clips(
        folder(
            "a.mp4",
            "a.txt",
            "sub/a.MOV",
            "sub/a.txt",
            "sub/b.webm",
            "alone.txt",
            "still.png",
            ".hidden/x.mp4",
            ".DS_Store",
        ),
        leave_out=tmp_path / "data",
    )
    assert [(clip.name, clip.caption) for clip in clips] == [
        ("a.mp4", "its caption"),
        ("sub/a.MOV", "its caption"),
    ]
    assert [str(clip.stem) for clip in clips] == ["a", "sub/a"]
    said = {outcome.name: (outcome.status, outcome.reason) for outcome in outcomes}
    assert said == {
        "alone.txt": ("skipped", "a caption without its clip"),
        "still.png": ("skipped", "no clip: .mp4, .mov, .mkv, .webm are read"),
        "sub/b.webm": ("skipped", "no caption; b.txt is wanted"),
    }


def test_captions_that_cannot_be_used(folder, tmp_path):
    clips = folder("a.mp4", "b.mp4", "c.mp4", "c.txt")
    (clips / "a.txt").write_text(" \n")
    (clips / "b.txt").write_bytes("Größe".encode("latin-1"))
    (clips / "c.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\n")
    found, outcomes = find_clips(clips, leave_out=tmp_path)
    assert [clip.caption for clip in found] == ["with a mark"]
    assert [outcome.status for outcome in outcomes] == ["failed", "failed"]
    assert [o.reason for o in outcomes] == ["a.txt is empty", "b.txt is not UTF-8 text"]


def test_two_clips_of_one_name(folder, tmp_path):
    found, outcomes = find_clips(folder("a.mov", "a.mp4", "a.txt"), leave_out=tmp_path / "x")
    assert [clip.name for clip in found] == ["a.mov"]
    assert outcomes == [("a.mp4", "failed", "a.mov has the same name; rename one")]


def test_what_was_written_is_no_input(folder):
    clips = folder("a.mp4", "a.txt", "data/latents/a.safetensors", "data/manifest.jsonl")
    found, outcomes = find_clips(clips, leave_out=clips / "data")
    assert len(found) == 1
    assert outcomes == []


def test_clips_in_a_folder_of_the_output(folder):
    clips = folder("a.mp4", "a.txt")
    assert len(find_clips(clips, leave_out=clips.parent)[0]) == 1


def test_folders_that_will_not_do(folder, tmp_path):
    with pytest.raises(UserError, match=r"--input-dir .*gone: there is no such folder"):
        find_clips(tmp_path / "gone", leave_out=tmp_path)
    clips = folder("a.txt")
    with pytest.raises(UserError, match=r"no clip \(\.mp4, \.mov, \.mkv, \.webm\) in it"):
        find_clips(clips, leave_out=tmp_path / "data")
    with pytest.raises(UserError, match="it is --input-dir; name another folder"):
        find_clips(clips, leave_out=clips / "." / ".." / "clips")
