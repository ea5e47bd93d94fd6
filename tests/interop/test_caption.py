"""Captions by transformers on PyTorch: they begin as those of mlx-vlm with the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltx_models.errors import UserError
from ltx_train.captions.caption import INSTRUCTION
from tests.train.captions.tiny_vlm import WORDS, write_torch_vlm
from tests.train.conftest import write_pair

pytestmark = pytest.mark.interop
ALIKE = 16  # words, of 256

# mlx-vlm puts processors of its own into transformers, so that each has a process to itself.
CAPTION = """
import sys
from pathlib import Path
import ltx_models
from ltx_train.captions.caption import caption_items
from ltx_train.inputs.item import Item
from ltx_train.precompute.config import PrecomputeConfig

clips, model, backend = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
config = PrecomputeConfig(
    clips.parent / backend, "tiny", dataset="clips", caption_backend=backend, caption_model=model
)
items = [Item(clips / name, name) for name in ("a.mp4", "b.mp4")]
ready, outcomes = caption_items(items, config, report=lambda *_: None)
assert not outcomes, outcomes
"""


def caption(clips: Path, model: Path, backend: str) -> dict[str, str]:
    subprocess.run(
        [sys.executable, "-c", CAPTION, clips, model, backend],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    folder = clips.parent / backend / "captions"
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_the_same_captions_as_by_mlx(tmp_path):
    model = write_torch_vlm(tmp_path / "vlm")
    for name in ("a.mp4", "b.mp4"):
        write_pair(tmp_path / "clips", name, caption=None, frames=30)
    found = caption(tmp_path / "clips", model, "transformers")
    assert list(found) == ["a.txt", "b.txt"]
    for text in found.values():
        assert len(text.split()) > 5
        assert set(text.split()) <= set(WORDS)
    assert found["a.txt"] != found["b.txt"]
    by_mlx = caption(tmp_path / "clips", model, "mlx")
    for name, text in found.items():  # its network is not quite the same: 0.05 in the logits
        assert by_mlx[name].split()[:ALIKE] == text.split()[:ALIKE]


def test_a_model_that_cannot_be_loaded(tmp_path):
    from ltx_train.captions.with_transformers import load_captioner  # noqa: PLC0415

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError) as error:
        load_captioner(str(tmp_path), INSTRUCTION)
    assert str(error.value).startswith(f"--caption-model {tmp_path}: transformers cannot load it: ")
