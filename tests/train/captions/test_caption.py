"""Clips captioned by a real, tiny, random vision-language model in mlx-vlm's own format."""

import json
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from PIL import Image

from ltx_models.errors import UserError
from ltx_train.captions.caption import INSTRUCTION, caption_items
from ltx_train.captions.frames import sample_frames
from ltx_train.captions.tidy import tidy
from ltx_train.captions.with_mlx import MAX_TOKENS, load_captioner
from ltx_train.inputs.buckets import Bucket
from ltx_train.inputs.item import Item, Outcome
from ltx_train.precompute.config import PrecomputeConfig
from tests.train.captions.tiny_vlm import WORDS, write_vlm
from tests.train.conftest import write_pair

NAMES = ("a.mp4", "sub/größe.mov", "still.png")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> Path:
    return write_vlm(tmp_path_factory.mktemp("models") / "tiny-vlm")


@pytest.fixture
def clips(tmp_path) -> Path:
    for name in NAMES[:2]:
        write_pair(tmp_path / "clips", name, caption=None)
    Image.linear_gradient("L").save(tmp_path / "clips" / "still.png")
    return tmp_path / "clips"


def items_of(clips: Path, *names: str, **captions: str) -> list[Item]:
    return [Item(clips / name, name, captions.get(Path(name).stem)) for name in names or NAMES]


def caption(clips: Path, model: Path, items=None, **changes):
    config = PrecomputeConfig(
        clips.parent / "data",
        "tiny",
        (Bucket(64, 32, 9),),
        **{"input_dir": clips, "caption": True, "caption_model": str(model), **changes},
    )
    seen: list[tuple[str, int, int]] = []
    ready, outcomes = caption_items(
        items or items_of(clips), config, report=lambda *step: seen.append(step)
    )
    return ready, outcomes, seen


def texts(clips: Path) -> dict[str, tuple[bytes, int]]:
    found = sorted(clips.rglob("*.txt"))
    return {p.relative_to(clips).as_posix(): (p.read_bytes(), p.stat().st_ino) for p in found}


def test_every_clip_gets_a_caption_beside_it_and_a_second_run_captions_nothing(vlm, clips):
    before = mx.get_active_memory()
    ready, outcomes, seen = caption(clips, vlm)
    assert mx.get_active_memory() - before < 10_000  # the model is gone
    assert outcomes == []
    assert [item.name for item in ready] == list(NAMES)
    for item in ready:
        assert set(item.caption.split()) <= set(WORDS)
        assert len(item.caption.split()) > 5
    written = texts(clips)
    assert list(written) == ["a.txt", "still.txt", "sub/größe.txt"]
    assert written["a.txt"][0] == f"{ready[0].caption}\n".encode()
    assert seen == [("captions", number, 3) for number in range(4)]

    # No model is loaded: this one could not be.
    again, outcomes, seen = caption(clips, clips / "gone")
    assert (again, outcomes, seen) == (ready, [], [])
    assert texts(clips) == written


def test_a_caption_is_what_the_model_says_of_the_frames(vlm, clips):
    """Once more, from its parts; and always the same."""
    ready, _, _ = caption(clips, vlm, items_of(clips, "a.mp4", "still.png"))
    captioner = load_captioner(str(vlm), INSTRUCTION)
    for item in ready:
        frames = sample_frames(item.path, max_frames=9)
        assert len(frames) == (1 if item.name == "still.png" else 6)
        answer = captioner(frames)
        assert not answer.is_whole
        assert len(answer.text.split()) == MAX_TOKENS
        assert tidy(answer.text, is_whole=False) == item.caption
    assert len({item.caption for item in ready}) > 1
    another = {"caption_prompt": WORDS[5], "dataset": "x", "input_dir": None}
    (other,), _, _ = caption(clips, vlm, items_of(clips, "a.mp4"), **another)
    assert other.caption != ready[0].caption


def test_a_persons_captions_stay(vlm, clips):
    """Those that were read, one that came while the run went on, and a file without words."""
    (clips / "a.txt").write_text(" by a person \n")
    (clips / "still.txt").write_text("\n")
    items = items_of(clips, größe="from a table")
    before = texts(clips)
    ready, outcomes, _ = caption(clips, vlm, items, overwrite=True)
    assert [item.caption for item in ready] == ["by a person", "from a table"]
    why = f"{clips}/still.txt is empty; write a caption, or delete it to have one written"
    assert outcomes == [Outcome("still.png", "failed", why)]
    assert texts(clips) == before


def test_captions_of_a_data_set_lie_in_the_output_folder(vlm, clips):
    items = items_of(clips, "sub/größe.mov")
    ready, _, _ = caption(clips, vlm, items, dataset="people/boats", input_dir=None)
    assert texts(clips) == {}
    assert list(texts(clips.parent / "data" / "captions")) == ["sub/größe.txt"]
    again, _, _ = caption(clips, clips / "gone", items, dataset="people/boats", input_dir=None)
    assert again == ready


def test_one_failure_does_not_stop_the_rest(vlm, clips):
    (clips / "a.mp4").write_text("a text")
    ready, outcomes, seen = caption(clips, vlm, items_of(clips, "a.mp4", "still.png"))
    assert [item.name for item in ready] == ["still.png"]
    ((name, status, reason),) = outcomes
    assert (name, status) == ("a.mp4", "failed")
    assert "a.mp4: not a video or sound that can be read" in reason
    assert seen[-1] == ("captions", 2, 2)


def changed_vlm(vlm: Path, folder: Path, **changes) -> Path:
    folder.mkdir()
    for path in vlm.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((vlm / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_an_empty_answer_is_a_failure(vlm, clips, tmp_path):
    everything = list(range(len(WORDS) + 6))  # every token ends the answer
    model = changed_vlm(vlm, tmp_path / "mute", eos_token_id=everything)
    ready, outcomes, _ = caption(clips, model)
    assert ready == []
    assert {outcome.reason for outcome in outcomes} == {"the caption model said nothing of it"}
    assert texts(clips) == {}


def test_a_models_own_code_is_not_run(vlm, clips, tmp_path):
    model = changed_vlm(vlm, tmp_path / "code", model_file="own.py")
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="it brings code of its own, which is not run"):
        caption(clips, model)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "unheard"}, "mlx-vlm cannot load it: Model type unheard not supported"),
        ({"scale_factor": 3}, "mlx-vlm cannot load it: "),
    ],
)
def test_a_model_that_cannot_be_loaded(vlm, clips, tmp_path, changes, said):
    model = changed_vlm(vlm, tmp_path / "other", **changes)
    with pytest.raises(UserError) as error:
        caption(clips, model)
    assert str(error.value).startswith(f"--caption-model {model}: {said}")


def test_a_model_that_is_not_there(clips, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        caption(clips, Path("people/gone"))
    said = "--caption-model people/gone: no such folder, and not to be had from the hub: "
    assert str(error.value).startswith(said)


def test_transformers_without_torch_says_what_to_install(clips):
    assert "torch" not in sys.modules
    with pytest.raises(UserError) as error:
        caption(clips, clips / "gone", caption_backend="transformers")
    assert str(error.value).splitlines()[:2] == [
        "--caption-backend transformers: it needs PyTorch, which is not installed.",
        'pip install torch  (or, in a clone of ltx-mlx: pip install -e ".[interop]")',
    ]
