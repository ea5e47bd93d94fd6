"""Each shipped configuration trains, on data that ltx-precompute made for its kind of run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.write import write_wav
from ltx_models.lora.files import read_lora
from ltx_train import cli
from ltx_train.config import read_run
from ltx_train.inputs.buckets import Bucket
from ltx_train.output.metadata import streams_of
from tests.end_to_end.film import RATE, Cut, read_film, write_cut
from tests.train.conftest import run

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "train").glob("*.yaml"))
STEPS, FRAMES = 3, 73  # ten latent frames, of which eight are given to go on from
LONG, WIDE, STILL = Bucket(64, 32, FRAMES), Bucket(608, 32, 9), Bucket(64, 64, 1)
# What is given of a clip to be continued, or painted around, is the configuration's own.
DIMS = {
    "video_extend_lora": LONG,
    "video_suffix_lora": LONG,
    "video_outpainting_lora": WIDE,
    "audio_extend_lora": LONG,
    "audio_suffix_lora": LONG,
    "character_stills_lora": Bucket(64, 64, 9),
}
DATA = {"video_outpainting_lora": "wide", "character_stills_lora": "stills"}


def put_wav(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, np.ascontiguousarray(samples, np.float32), rate=RATE)


def halves(cut: Cut) -> np.ndarray:
    """A sound (2, samples): silence, and then full scale."""
    there = np.zeros_like(cut.sound)
    there[:, there.shape[1] // 2 :] = 1
    return there


def put_clips(folder: Path, whole: Cut) -> None:
    """Two clips with references and masks of picture and sound, one clip for each to a folder."""
    mask = Image.new("L", (64, 32))
    mask.paste(255, (32, 0, 64, 32))
    for number in range(2):
        cut = whole.part(0, FRAMES, left=40 * number, size=(80, 160))
        write_cut(folder / f"clips/{number}.mp4", cut, caption="a rabbit in a meadow")
        write_cut(folder / f"references/{number}.mp4", cut._replace(frames=255 - cut.frames))
        put_wav(folder / f"reference_sounds/{number}.wav", -cut.sound)
        put_wav(folder / f"sound_masks/{number}.wav", halves(cut))
        (folder / "masks").mkdir(exist_ok=True)
        mask.save(folder / f"masks/{number}.png")


def put_validation(folder: Path, whole: Cut) -> None:
    """What the configurations' samples are given, under the names that their comments say."""
    cut = whole.part(0, FRAMES + 2, size=(80, 160))
    write_cut(folder / "clip.mp4", cut)
    write_cut(folder / "reference.mp4", cut)
    for name in ("sound", "reference"):
        put_wav(folder / f"{name}.wav", cut.sound)
    put_wav(folder / "mask.wav", halves(cut))
    Image.fromarray(cut.frames[0]).save(folder / "first.png")
    Image.linear_gradient("L").save(folder / "mask.png")


@pytest.fixture(scope="module")
def whole() -> Cut:
    return read_film(num_frames=FRAMES + 2)


@pytest.fixture(scope="module")
def folder(tiny, whole, tmp_path_factory) -> Path:
    """Where the runs are: data/ of clips with all that can belong to them, and validation/."""
    folder = tmp_path_factory.mktemp("configs")
    put_clips(folder, whole)
    put_validation(folder / "validation", whole)
    made = run(
        folder / "clips",
        folder / "data",
        LONG,
        with_audio=True,
        reference_dir=folder / "references",
        reference_audio_dir=folder / "reference_sounds",
        video_mask_dir=folder / "masks",
        audio_mask_dir=folder / "sound_masks",
    )
    assert [outcome.status for outcome in made] == ["done", "done"]
    return folder


@pytest.fixture(scope="module")
def wide(folder, whole) -> Path:
    """A clip of which a rectangle of 288 rows and 576 columns leaves something."""
    cut = whole.part(0, 9, size=(16, 304))
    write_cut(folder / "wide_clips/0.mp4", cut, caption="a meadow", with_sound=False)
    (made,) = run(folder / "wide_clips", folder / "wide", WIDE)
    assert made.status == "done"
    return folder / "wide"


@pytest.fixture(scope="module")
def stills(folder, whole) -> Path:
    (folder / "photos").mkdir()
    for number in range(2):
        Image.fromarray(whole.frames[8 * number]).save(folder / f"photos/{number}.png")
        (folder / f"photos/{number}.txt").write_text("a rabbit")
    made = run(folder / "photos", folder / "stills", STILL, trigger="ohwx")
    assert [outcome.status for outcome in made] == ["done", "done"]
    return folder / "stills"


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_it_trains(path, folder, request, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    width, height, frames = DIMS.get(path.stem, Bucket(64, 32, 9))
    other = DATA.get(path.stem)
    data = request.getfixturevalue(other) if other else folder / "data"
    overrides = [
        "model.model_path=tiny",
        f"data.preprocessed_data_root={data}",
        f"output_dir={tmp_path}",
        f"optimization.steps={STEPS}",
        "validation.inference_steps=2",
        f"validation.video_dims=[{width},{height},{frames}]",
    ]
    cli.main(["--config", str(path), *overrides])
    said = capsys.readouterr()
    config = read_run(path, overrides).config
    streams = streams_of(config)
    generated = {name for name, stream in streams.items() if stream.is_generated}

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["step"] for row in steps] == [1, 2, 3]
    for row in steps:
        assert row["losses"].keys() == generated
        assert all(0 < loss < 100 and math.isfinite(loss) for loss in row["losses"].values())
    assert steps[0]["adapter_norm"] > 0
    assert "is not applied to" not in said.err  # what a condition gives, samples have
    adapter = read_lora(tmp_path / f"checkpoints/lora_weights_step_{STEPS:05}.safetensors")
    assert {entry.rank for entry in adapter.entries.values()} == {config.lora.rank}

    (validation,) = [row for row in rows if row["kind"] == "validation"]
    assert validation["step"] == 0
    made = sorted(file.name for file in (tmp_path / "samples").iterdir())
    ending = "mp4" if "video" in streams else "wav"
    count = len(config.validation.samples)
    assert made == [f"step_000000_{number}.{ending}" for number in range(1, count + 1)]
    assert (tmp_path / "report.html").stat().st_size > 10_000
