"""Folders of empty files, and what is made of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_train.inputs.item import Item, Outcome
from ltx_train.inputs.items import find_items
from ltx_train.precompute.config import PrecomputeConfig

Find = Callable[..., tuple[list[Item], list[Outcome]]]


def write_files(folder: Path, *names: str) -> Path:
    """Empty files; captions have text."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" its caption\n" if path.suffix == ".txt" else "")
    return folder


@pytest.fixture
def find(tmp_path) -> Find:
    """``find_items`` for ``tmp_path / "clips"``, or for what is given in its place."""

    def run(**given):
        usual = {"input_dir": tmp_path / "clips", "output_dir": tmp_path / "data"}
        return find_items(PrecomputeConfig(model="tiny", **{**usual, **given}))

    return run


def said(outcomes: list[Outcome]) -> dict[str, tuple[str, str]]:
    assert len({outcome.name for outcome in outcomes}) == len(outcomes)
    return {outcome.name: (outcome.status, outcome.reason) for outcome in outcomes}
