import json
import sys
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value, Video
from PIL import Image as Picture

from ltx_models.errors import UserError
from tests.infer.media.odd_media import write_video
from tests.train.inputs.conftest import said
from tests.train.media import moving

CAPTIONS = {"a.mp4": "a caption", "s.png": "of a still", "in/a.mp4": "of another"}


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "clips"
    (folder / "in").mkdir(parents=True)
    for seed, name in enumerate(CAPTIONS):
        if name.endswith(".png"):
            Picture.fromarray(moving(seed)[0]).save(folder / name)
        else:
            write_video(folder / name, moving(seed))
        (folder / name).with_suffix(".txt").write_text(CAPTIONS[name])
    return folder


@pytest.fixture
def table(clips) -> Dataset:
    """Videos and a still in two columns, as bytes once they are saved."""
    columns = {"video": [], "image": [], "caption": list(CAPTIONS.values())}
    for name in CAPTIONS:
        is_still = name.endswith(".png")
        columns["video"].append(None if is_still else str(clips / name))
        columns["image"].append(str(clips / name) if is_still else None)
    features = {"video": Video(), "image": Image(), "caption": Value("string")}
    return Dataset.from_dict(columns, features=Features(features))


def test_a_saved_data_set_has_its_files_in_it(find, clips, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    items, outcomes = find(input_dir=None, dataset=str(tmp_path / "saved"))
    assert outcomes == []
    sources = tmp_path / "data" / "sources"
    found = [(item.name, item.path, item.caption) for item in items]
    assert found == [
        ("a-000002.mp4", sources / "a-000002.mp4", "of another"),  # it has lost its folder
        ("a.mp4", sources / "a.mp4", "a caption"),
        ("s.png", sources / "s.png", "of a still"),
    ]
    for item, name in zip(items, ("in/a.mp4", "a.mp4", "s.png"), strict=True):
        assert item.path.read_bytes() == (clips / name).read_bytes()
    times = [item.path.stat().st_mtime_ns for item in items]
    again, _ = find(input_dir=None, dataset=str(tmp_path / "saved"))
    assert [item.path.stat().st_mtime_ns for item in again] == times
    assert "torch" not in sys.modules


def test_a_dry_run_writes_nothing(find, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    items, _ = find(input_dir=None, dataset=str(tmp_path / "saved"), dry_run=True)
    assert all(item.path.is_file() for item in items)
    assert not (tmp_path / "data").exists()


def test_a_folder_of_videos_with_a_table(find, clips, tmp_path):
    for other in [*clips.rglob("*.txt"), clips / "s.png"]:
        other.unlink()
    names = [name for name in CAPTIONS if name.endswith(".mp4")]
    rows = [{"file_name": name, "caption": CAPTIONS[name]} for name in names]
    (clips / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items, outcomes = find(input_dir=None, dataset=str(clips))
    assert outcomes == []
    assert [(item.name, item.path, item.caption) for item in items] == [
        (name, clips / name, CAPTIONS[name]) for name in sorted(names)
    ]


def test_bytes_without_a_name_and_splits(find, clips, tmp_path):
    cells = [(clips / name).read_bytes() for name in ("a.mp4", "s.png")]
    rows = {"clip": [{"bytes": cell, "path": None} for cell in cells], "text": ["one", "two"]}
    features = Features({"clip": Video(), "text": Value("string")})
    made = DatasetDict(dict.fromkeys(("train", "test"), Dataset.from_dict(rows, features)))
    made.save_to_disk(tmp_path / "saved")
    given = {"dataset": str(tmp_path / "saved"), "input_dir": None, "video_column": "clip"}
    items, outcomes = find(caption_column="text", **given)
    assert [(item.name, item.caption) for item in items] == [
        ("000000.mp4", "one"),
        ("000001.png", "two"),
    ]
    assert outcomes == [("split test", "skipped", "the split train is taken")]


def test_rows_that_cannot_be_used(find, clips, tmp_path):
    names = [str(clips / "a.mp4"), str(clips / "gone.mp4"), None, str(clips / "a.txt"), "../s.png"]
    (tmp_path / "s.png").write_bytes((clips / "s.png").read_bytes())
    (tmp_path / "table").mkdir()
    rows = {"video": names, "caption": ["one", "two", "three", "four", ""]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "table" / "train.parquet")
    items, outcomes = find(input_dir=None, dataset=str(tmp_path / "table"))
    assert [(item.name, item.caption) for item in items] == [("a.mp4", "one")]
    found = said(outcomes)
    assert found.pop("row 3")[1].startswith("a-000003.txt: no clip or still: .mp4, ")
    assert found == {
        "row 1": ("failed", f"{clips / 'gone.mp4'}: there is no such file"),
        "row 2": ("failed", "nothing in its video"),
        "s.png": ("skipped", f"no caption in {tmp_path / 'table'}; s.txt is wanted"),
    }


def test_data_sets_that_will_not_do(find, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    (tmp_path / "empty").mkdir()
    two = DatasetDict({"a": table, "b": table})
    two.save_to_disk(tmp_path / "two")
    table.select([]).save_to_disk(tmp_path / "none")
    (tmp_path / "script.py").write_text("")
    for given, message in (
        ({"dataset": "no/such"}, "--dataset no/such: there is no such folder, and the hub cannot"),
        ({"dataset": "empty"}, "empty: The directory at "),
        ({"dataset": "two"}, "two: it has no split train, only a, b"),
        ({"dataset": "none"}, "none: it has no rows"),
        ({"dataset": "saved", "output_dir": tmp_path / "saved/out"}, "it lies in --dataset; name"),
        ({"dataset": "script.py"}, "script.py: Dataset scripts are no longer supported"),
        ({"dataset": "clips"}, "has text. Clips with texts beside them are an --input-dir"),
        ({"dataset": "saved", "caption_column": "text"}, "--caption-column text: "),
        ({"dataset": "saved", "video_column": "clip"}, "--video-column clip: "),
    ):
        there = tmp_path / given["dataset"]
        given["dataset"] = str(there) if there.exists() else given["dataset"]
        with pytest.raises(UserError) as error:
            find(input_dir=None, **given)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
