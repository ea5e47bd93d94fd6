"""Two small clips with captions, and what ltx-precompute makes of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ltx_infer.media.write import write_clip
from ltx_train.config import TrainConfig, read_config
from ltx_train.inputs.buckets import Bucket
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.run import precompute
from ltx_train.run import Finished, train_lora
from tests.train.config.conftest import VALID

BUCKET = Bucket(64, 32, 9)


TIMES = {"seconds", "memory_active", "memory_peak"}


def write_pair(folder: Path, name: str, *, caption: str | bytes | None = "", frames: int = 11):
    """A clip of moving noise, and its caption: its name, some text, bytes, or none."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name) + sum(name.encode()))
    pixels = rng.integers(0, 256, (1, 5, 7, 3), np.uint8).repeat(8, 1).repeat(10, 2)
    moving = np.concatenate([np.roll(pixels, i, axis=2) for i in range(frames)])
    write_clip(path.with_suffix(".mp4"), [moving], fps=24)
    path.with_suffix(".mp4").rename(path)
    if caption is not None:
        text = caption if isinstance(caption, bytes) else (caption or f"a clip of {name}").encode()
        path.with_suffix(".txt").write_bytes(text)


def run(clips: Path, data: Path, *buckets: Bucket, **changes):
    config = PrecomputeConfig(data, "tiny", buckets or (BUCKET,), clips)
    config = PrecomputeConfig(**{**vars(config), **changes})
    return precompute(config, report=lambda stage, done, total: None, say=lambda line: None)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "sub/b.mov"):
        write_pair(folder, name)
    return folder


@pytest.fixture(scope="session")
def data(tiny, clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert [outcome.status for outcome in run(clips, folder)] == ["done", "done"]
    return folder


Configured = Callable[..., TrainConfig]


@pytest.fixture
def configured(data, tmp_path) -> Configured:
    """The configuration of a short run into ``out``, with some values put over it."""
    path = tmp_path / "lora.yaml"
    path.write_text(VALID)

    def configured(*overrides: str) -> TrainConfig:
        steps, root = "optimization.steps=3", f"data.preprocessed_data_root={data}"
        return read_config(path, [steps, root, f"output_dir={tmp_path / 'out'}", *overrides])

    return configured


def train(config: TrainConfig, *, said: list[str] | None = None, **how) -> Finished:
    """Run to the end; what is said goes to ``said``."""
    lines = [] if said is None else said
    how = {"report": lambda stage, done, total: None, **how}
    made = train_lora(config, say=lines.append, **how)
    assert made is not None
    return made


def rows(folder: Path) -> list[dict]:
    """The rows of a run's log without what no two runs have in common."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


@pytest.fixture(scope="session")
def finished_run(data, tmp_path_factory) -> Path:
    """A run of three steps."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "lora.yaml").write_text(VALID)
    words = (f"data.preprocessed_data_root={data}", f"output_dir={folder / 'out'}")
    train(read_config(folder / "lora.yaml", ["optimization.steps=3", *words]))
    return folder / "out"


@pytest.fixture
def finished(finished_run, configured) -> Path:
    """A copy of it where ``configured`` has its output."""
    return shutil.copytree(finished_run, configured().output)
