import json

import pytest

from ltx_models.errors import UserError
from ltx_train.inputs.prompts import read_rows
from tests.train.inputs.conftest import said, write_files


@pytest.fixture
def prompts(tmp_path):
    def write(name: str, content: str | bytes):
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(raw)
        return tmp_path / name

    return write


@pytest.fixture
def clips(tmp_path):
    return write_files(tmp_path / "clips", "a.mp4", "b/c.png", "d.webm")


OBJECTS = [{"video": "a.mp4", "caption": "one"}, {"video": "b/c.png", "caption": "two, and more"}]
FORMS = {
    "named.txt": "a.mp4|one\n\nb/c.png | two, and more\n",
    "stems.txt": "\ufeffa|one\r\nb/c|two, and more\r\n",
    "table.csv": 'video,caption\na.mp4,one\nb/c.png,"two, and more"\n',
    "other.csv": 'id, media_path ,caption\n1,a.mp4,one\n2,b/c.png,"two, and more"\n',
    "list.json": json.dumps(OBJECTS),
    "names.json": json.dumps({each["video"]: each["caption"] for each in OBJECTS}),
    "lines.jsonl": "\n".join(map(json.dumps, OBJECTS)) + "\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_a_prompts_file(find, clips, prompts, name):
    items, outcomes = find(prompts_file=prompts(name, FORMS[name]))
    assert [(item.name, item.path, item.caption) for item in items] == [
        ("a.mp4", clips / "a.mp4", "one"),
        ("b/c.png", clips / "b/c.png", "two, and more"),
    ]
    assert outcomes == [("d.webm", "skipped", f"no caption in {name}; d.txt is wanted")]


def test_captions_in_the_order_of_names(find, clips, prompts):
    items, outcomes = find(prompts_file=prompts("p.txt", "one | first\n\ntwo\nthree\n"))
    assert [(item.name, item.caption) for item in items] == [
        ("a.mp4", "one | first"),
        ("b/c.png", "two"),
        ("d.webm", "three"),
    ]
    assert outcomes == []
    with pytest.raises(UserError, match=r"p.txt: 2 captions for 3 clips and stills"):
        find(prompts_file=prompts("p.txt", "one\ntwo\n"))


def test_paths_beside_the_file_without_a_folder(find, clips, prompts, tmp_path):
    rows = ["clips/a.mp4", str(clips / "b/c.png"), f"../{tmp_path.name}/clips/d.webm"]
    text = "".join(f"{row}|a caption\n" for row in rows)
    items, outcomes = find(input_dir=None, prompts_file=prompts("p.txt", text))
    assert [item.name for item in items] == [
        "clips/a.mp4",
        "clips/b/c.png",
        f"{tmp_path.name}/clips/d.webm",
    ]
    assert all(item.path.is_file() for item in items)
    assert outcomes == []


def test_a_row_counts_more_than_the_text_beside(find, clips, prompts):
    write_files(clips, "a.txt", "d.txt")
    (clips / "b/c.txt").write_text("the same")
    text = "a.mp4|of the row\nb/c.png|the same\nd.webm|\n"
    items, outcomes = find(prompts_file=prompts("p.txt", text))
    assert [item.caption for item in items] == ["of the row", "the same", "its caption"]
    why = "the prompts file has another caption for a.mp4, which is taken"
    assert outcomes == [("a.txt", "skipped", why)]


def test_what_belongs_to_a_clip(find, clips, prompts, tmp_path):
    write_files(tmp_path, "r/a.mp4", "clips/a.flac", "m.png")
    head = "video,caption,ref_media_path,audio,video_mask"
    text = f"{head}\na.mp4,one,r/a.mp4,a.flac,m.png\nd.webm,two,,,gone.png\nb/c.png,three,,,\n"
    items, outcomes = find(prompts_file=prompts("p.csv", text))
    assert items[0].reference_video == tmp_path / "r/a.mp4"
    assert items[0].audio == clips / "a.flac"
    assert items[0].video_mask == tmp_path / "m.png"
    assert items[1][3:] == (None,) * 5
    why = "video_mask gone.png: there is no such file (p.csv row 2)"
    assert outcomes == [("d.webm", "failed", why)]


def test_rows_that_cannot_be_used(find, clips, prompts):
    rows = [
        {"video": "a.mp4", "caption": "one"},
        {"video": "a.mp4", "caption": "one"},
        {"video": "./a.mp4", "caption": "another"},
        {"video": "gone.mp4", "caption": "x"},
        {"caption": "of nothing"},
        {"video": "b/c.png", "caption": 3},
        {"video": "x" * 400, "caption": "x"},
        ["d.webm", "x"],
    ]
    lines = [*map(json.dumps, rows), "{no json"]
    items, outcomes = find(prompts_file=prompts("p.jsonl", "\n".join(lines)), caption=True)
    assert [(item.name, item.caption) for item in items] == [
        ("a.mp4", "one"),
        ("b/c.png", None),
        ("d.webm", None),
    ]
    assert said(outcomes) == {
        "p.jsonl line 2": ("skipped", "a.mp4 is in p.jsonl line 1 too, with the same"),
        "p.jsonl line 3": ("failed", "a.mp4 is in p.jsonl line 1 too, which is taken; remove one"),
        "gone.mp4": ("failed", "there is no such file (p.jsonl line 4)"),
        "p.jsonl line 5": ("failed", "it names no clip (p.jsonl line 5)"),
        "p.jsonl line 6": ("failed", "caption is 3; text is wanted"),
        "x" * 400: ("failed", "file name too long (p.jsonl line 7)"),
        "p.jsonl line 8": ("failed", "an object with columns is wanted"),
        "p.jsonl line 9": (
            "failed",
            "not JSON: Expecting property name enclosed in double quotes",
        ),
    }


def test_lines_and_cells_that_are_torn(prompts):
    rows, outcomes = read_rows(prompts("p.txt", "a.mp4|one\nno bar\n|x\n"), names=["a.mp4"])
    assert [row.caption for row in rows] == ["one"]
    assert [outcome.reason for outcome in outcomes] == ["it is not name|caption"] * 2
    rows, outcomes = read_rows(prompts("p.csv", "video,caption\na,red, and blue\nb\n"))
    assert [(row.media, row.caption) for row in rows] == [("b", None)]
    assert outcomes[0].name == "p.csv row 1"
    assert "put quotes around a text with commas" in outcomes[0].reason


def test_two_columns_of_clips_have_an_order(find, clips, prompts):
    text = "media_path,video,caption\na.mp4,d.webm,one\nb/c.png,,two\n"
    items, outcomes = find(prompts_file=prompts("p.csv", text))
    assert [(item.name, item.caption) for item in items] == [("b/c.png", "two"), ("d.webm", "one")]
    assert outcomes[0].name == "p.csv"
    assert outcomes[0].reason.startswith("its column media_path in 1 rows: video comes first")
    items, outcomes = find(prompts_file=prompts("p.csv", text), video_column="media_path")
    assert [(item.name, item.caption) for item in items] == [("a.mp4", "one"), ("b/c.png", "two")]
    assert [outcome.name for outcome in outcomes] == ["d.webm"]


def test_named_columns(prompts):
    path = prompts("p.csv", "file,text\na.mp4,one\n")
    (row,), _ = read_rows(path, caption_column="text", video_column="file")
    assert (row.media, row.caption) == ("a.mp4", "one")


@pytest.mark.parametrize(
    ("name", "content", "given", "message"),
    [
        ("p.yaml", "a: b", {}, "p.yaml: .txt, .csv, .json, .jsonl are read"),
        ("p.csv", "Größe".encode("latin-1"), {}, "p.csv is not UTF-8 text; save it as such"),
        ("p.json", "[{", {}, "p.json: not JSON: Expecting property name"),
        ("p.json", "3", {}, "p.json: a list of objects is wanted, or name: caption"),
        (
            "p.csv",
            "a,b\n1,2\n",
            {"caption_column": "text"},
            "--caption-column text: p.csv has a, b",
        ),
        ("p.csv", "a,b\n1,2\n", {"video_column": "v"}, "--video-column v: p.csv has a, b"),
        ("p.csv", "", {"video_column": "v"}, "--video-column v: p.csv has no columns"),
    ],
)
def test_files_that_will_not_do(prompts, name, content, given, message):
    with pytest.raises(UserError) as error:
        read_rows(prompts(name, content), **given)
    assert message in str(error.value)


def test_no_file_and_nothing_in_it(find, prompts, tmp_path):
    with pytest.raises(UserError, match=r"gone.csv: there is no such file"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"a folder, a file is wanted"):
        read_rows(tmp_path)
    with pytest.raises(UserError, match=r"p.csv: there is nothing to encode in it"):
        find(input_dir=None, prompts_file=prompts("p.csv", "video,caption\n"))
