"""Ways to decode: the same latents, the same frames."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.cli import main
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.saved import Saved, save
from tests.end_to_end.conftest import read_clip

LATENTS = Path("clip.latents.safetensors")


def decoded(*words: str) -> np.ndarray:
    main(["--decode-only", str(LATENTS), "-o", "clip.mp4", *words])
    return read_clip(Path("clip.mp4")).frames


@pytest.fixture
def latents(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = mx.random.normal((1, 16, 4, 3, 10), key=mx.random.key(0))
    save(LATENTS, Saved(ClipLatents(video, None), 24.0, "tiny"))


def test_every_way_gives_the_same_frames(latents):
    wanted = decoded()
    assert wanted.shape == (25, 96, 320, 3)
    for words in (("--stream",), ("--tiling", "none"), ("--tiling", "conservative", "--stream")):
        assert np.array_equal(decoded(*words), wanted)
    # Tiles of 256 pixels that overlap by 64: blended, and the same where there is one only.
    tiled = decoded("--tiling", "aggressive").astype(int)
    assert np.abs(tiled - wanted)[..., 192:, :].max() > 0
    assert np.abs(tiled - wanted).mean() < 12


def test_a_way_that_there_is_not(latents, capsys):
    with pytest.raises(SystemExit):
        main(["--decode-only", str(LATENTS), "--tiling", "fine"])
    said = capsys.readouterr().err
    assert said.startswith("ltx-generate: --tiling 'fine': Input should be 'auto', 'none', ")
