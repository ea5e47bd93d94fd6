from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import read_clip


@pytest.fixture
def folder(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(one: Path, two: Path) -> bool:
    a, b = read_clip(one), read_clip(two)
    sounds = [clip.sound is not None for clip in (a, b)]
    return np.array_equal(a.frames, b.frames) and (
        not any(sounds) or (all(sounds) and np.array_equal(a.sound, b.sound))
    )
