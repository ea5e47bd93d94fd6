import os
import unicodedata

import pytest

from ltx_models.errors import UserError
from tests.train.inputs.conftest import said, write_files


def test_every_file_has_its_place(find, tmp_path):
    names = ("a.mp4", "a.txt", "sub/a.MOV", "sub/a.TXT", "sub/b.webm", "alone.txt", "s.png")
    more = ("s.txt", "x.pdf", "x.wav", "list.csv", ".hidden/x.mp4", ".DS_Store")
    write_files(tmp_path / "clips", *names, *more)
    (tmp_path / "clips" / "sub" / "a.TXT").write_text("its caption")
    items, outcomes = find()
    assert [(item.name, item.caption) for item in items] == [
        ("a.mp4", "its caption"),
        ("s.png", "its caption"),
        ("sub/a.MOV", "its caption"),
    ]
    assert [str(item.stem) for item in items] == ["a", "s", "sub/a"]
    found = said(outcomes)
    assert found.pop("x.pdf")[1].startswith("no clip or still: .mp4, .mov, .mkv, .webm, .gif, ")
    assert found.pop("x.wav")[1].startswith("sound alone; the column audio")
    assert found == {
        "alone.txt": ("skipped", "a caption without its clip"),
        "list.csv": ("skipped", "if these are captions, --prompts-file reads them"),
        "sub/b.webm": ("skipped", "no caption; b.txt is wanted"),
    }


def test_captions_that_cannot_be_used(find, tmp_path):
    clips = write_files(tmp_path / "clips", *(f"{name}.mp4" for name in "abcde"))
    (clips / "a.txt").write_text(" \n")
    (clips / "b.txt").write_bytes("Größe".encode("latin-1"))
    (clips / "c.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\nof two lines\r\n")
    (clips / "d.txt").write_bytes("wide".encode("utf-16"))
    (clips / "e.txt").write_bytes("wide".encode("utf-16-le"))
    items, outcomes = find()
    assert [item.caption for item in items] == ["with a mark\nof two lines"]
    assert said(outcomes) == {
        "a.mp4": ("failed", "a.txt is empty"),
        "b.mp4": ("failed", "b.txt is not UTF-8 text; save it as such"),
        "d.mp4": ("failed", "d.txt is not UTF-8 text; save it as such"),
        "e.mp4": ("failed", "e.txt is not text"),
    }


def test_a_clip_without_caption_is_left_to_the_captioner(find, tmp_path):
    write_files(tmp_path / "clips", "a.mp4", "b.mp4", "b.txt")
    items, outcomes = find(caption=True)
    assert [item.caption for item in items] == [None, "its caption"]
    assert outcomes == []


def test_two_clips_of_one_name(find, tmp_path):
    write_files(tmp_path / "clips", "a.mov", "a.mp4", "a.png", "a.txt", "b/a.mp4", "b/a.txt")
    items, outcomes = find()
    assert [item.name for item in items] == ["a.mov", "b/a.mp4"]
    why = ("failed", "a.mov has the same name; rename one")
    assert said(outcomes) == {"a.mp4": why, "a.png": why}


def test_accents_are_letters_however_they_are_stored(find, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    write_files(tmp_path / "clips", f"{decomposed}.mp4", f"{composed}.txt")
    (item,), outcomes = find()
    assert item.name == f"{composed}.mp4"
    assert item.path.is_file()
    assert (item.caption, outcomes) == ("its caption", [])
    write_files(tmp_path / "clips", f"{composed}.mp4")
    items, outcomes = find()
    assert len(items) == 1
    assert outcomes == [(f"{composed}.mp4", "failed", "two files have this name; rename one")]


def test_names_that_are_no_text_and_links(find, tmp_path):
    clips = write_files(tmp_path / "clips", "a.mp4", "a.txt", "new\nline.mp4", "in/b.mp4")
    (clips / os.fsdecode(b"latin\xe9.mp4")).write_bytes(b"")
    (clips / "gone.mp4").symlink_to(tmp_path / "gone.mp4")
    (clips / "folder").symlink_to(clips / "in")
    (clips / "with space\u202f.mp4").symlink_to(clips / "a.mp4")
    items, outcomes = find(caption=True)
    assert [item.name for item in items] == ["a.mp4", "in/b.mp4", "with space\u202f.mp4"]
    assert said(outcomes) == {
        "folder": ("skipped", "a link to a folder"),
        "gone.mp4": ("skipped", "a link to nothing"),
        "latin\\udce9.mp4": ("failed", "its name is not readable text; rename it"),
        "new\nline.mp4": ("failed", "its name is not readable text; rename it"),
    }


def test_what_was_written_is_no_input(find, tmp_path):
    names = ("a.mp4", "a.txt", "data/latents/a.safetensors", "data/sources/b.mp4", "refs/a.mp4")
    clips = write_files(tmp_path / "clips", *names)
    items, outcomes = find(output_dir=clips / "data", reference_dir=clips / "refs")
    assert [(item.name, item.reference_video) for item in items] == [
        ("a.mp4", clips / "refs" / "a.mp4")
    ]
    assert outcomes == []


def test_two_companions_for_a_clip(find, tmp_path):
    write_files(tmp_path / "clips", "a.mp4", "a.txt", "b.mp4")
    masks = write_files(tmp_path / "masks", "a.png", "a.mp4", "b.png")
    items, outcomes = find(video_mask_dir=masks)
    assert items == []
    assert said(outcomes) == {
        "a.mp4": ("failed", "2 files for its mask: a.mp4, a.png; remove one"),
        "b.mp4": ("skipped", "no caption; b.txt is wanted"),
    }


def test_companions_are_found_by_name(find, tmp_path):
    write_files(
        tmp_path / "clips", *(f"{n}.{e}" for n in ("a", "s/b", "c") for e in ("mp4", "txt"))
    )
    masks = write_files(tmp_path / "masks", "a.png", "s/b.mov", "c.png", "c.mp4", "d.png")
    sounds = write_files(tmp_path / "sounds", "a.flac")
    items, outcomes = find(video_mask_dir=masks, reference_audio_dir=sounds)
    assert [(item.name, item.video_mask, item.reference_audio) for item in items] == [
        ("a.mp4", masks / "a.png", sounds / "a.flac")
    ]
    assert said(outcomes) == {
        "c.mp4": ("skipped", f"no reference sound of its name in {sounds}"),
        "masks/d.png": ("skipped", "a mask without its clip"),
        "s/b.mp4": ("skipped", f"no reference sound of its name in {sounds}"),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_dir": "gone"}, "--input-dir gone: there is no such folder"),
        ({"input_dir": "clips/a.txt"}, "--input-dir clips/a.txt: there is no such folder"),
        ({"input_dir": "empty"}, "--input-dir empty: no clip or still (.mp4, .mov, "),
        ({"output_dir": "clips/./sub/.."}, "it is --input-dir; name another folder"),
        ({"reference_dir": "clips"}, "--reference-dir clips: it is --input-dir"),
        ({"audio_mask_dir": "gone"}, "--audio-mask-dir gone: there is no such folder"),
    ],
)
def test_folders_that_will_not_do(find, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "clips", "a.mp4", "a.txt", "sub/b.mp4")
    write_files(tmp_path / "empty", "a.txt")
    with pytest.raises(UserError) as error:
        find(**{field: tmp_path.__class__(path) for field, path in given.items()})
    assert message in str(error.value)
