"""A folder as people have it through ltx-precompute, and the same clips as a data set."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import av
import mlx.core as mx
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from datasets import Dataset, Features, Image, Value, Video
from PIL import Image as Picture

from ltx_infer.media.resize import cover
from ltx_models.checkpoint import open_checkpoint
from ltx_models.video_vae import load_video_encoder
from ltx_train.inputs.buckets import parse_buckets
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.run import precompute
from tests.train.media import HUGE, TIMES, write_folder

BT601 = 5
BUCKETS = ("--resolution-buckets", "64x32x9;32x64x9;64x32x1")
MUTE = ("done", "it has no sound")
DAMAGED = ("failed", "not a video or sound that can be read, or damaged")
ENDINGS = ".mp4, .mov, .mkv, .webm, .gif, .png, .jpg, .jpeg, .webp, .tif, .tiff, .bmp, .avif"
SUMMARY = {
    "a/same.mkv": MUTE,
    "b/same.mkv": MUTE,
    "größe été.mp4": MUTE,
    "list.csv": ("skipped", "if these are captions, --prompts-file reads them"),
    "lonely.txt": ("skipped", "a caption without its clip"),
    "moves.gif": MUTE,
    "mute.mp4": ("skipped", "no caption; mute.txt is wanted"),
    "notes.pdf": ("skipped", f"no clip or still: {ENDINGS} are read"),
    "phone.mov": MUTE,
    "plain.mov": MUTE,
    "plain.mp4": ("failed", "plain.mov has the same name; rename one"),
    "scrambled.mp4": DAMAGED,
    "short.mp4": ("skipped", "too short: 3 frames at 24 a second, 64x32x9 needs 9"),
    "silent.mp4": ("done", "its sound is silence"),
    "text.mp4": DAMAGED,
    "torn.mp4": DAMAGED,
    "uneven.webm": MUTE,
    "日本 の海.mp4": MUTE,
}
PLAINLY_DONE = ("alpha.png", "huge.png", "rests.gif", "surround.mp4")
TALL = {"phone": "32x64x9"}  # by stem; the others are wide
STILLS = ("alpha", "huge", "rests")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ltx-precompute")
    return subprocess.run(
        [program, "--model", "tiny", *words], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    write_folder(folder / "clips")
    return folder


@pytest.fixture(scope="module")
def done(folder) -> subprocess.CompletedProcess[str]:
    words = ("--input-dir", "clips", "--output-dir", "data", "--fps", "24", "--with-audio")
    return command(folder, *words, *BUCKETS)


def test_every_row_of_the_summary(done):
    first, *rows = done.stdout.splitlines()
    assert done.returncode == 1
    assert first == "data: 13 done, 5 skipped, 4 failed"
    said = {}
    for row in rows:
        status, name, reason = row.split(": ", 2)
        said[name] = (status, reason)
    assert said == SUMMARY
    assert len(rows) == len(SUMMARY)  # all but those that are plainly done


def test_files_and_buckets(done, folder):
    names = [name for name, (status, _) in SUMMARY.items() if status == "done"]
    names = sorted([*names, *PLAINLY_DONE])
    text = (folder / "data/manifest.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["clip"] for line in lines] == names
    for line in lines:
        stem = str(Path(line["clip"]).with_suffix(""))
        still = "64x32x1" if stem in STILLS else "64x32x9"
        assert line["bucket"] == TALL.get(stem, still)
        assert line["fps"] == (1 if stem in STILLS else 24)
        assert line["has_sound"] == (stem in ("silent", "surround"))
        assert line["caption"] == f"a clip of {Path(stem).name}"
        assert all((folder / "data" / path).is_file() for path in line["files"].values())


def decoded(path: Path) -> list[np.ndarray]:
    """Frames (H, W, 3) as they are stored, of a small video that does not name its colours."""
    accurate = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    with av.open(str(path)) as file:
        return [
            frame.reformat(
                format="rgb24", src_colorspace=BT601, interpolation=accurate
            ).to_ndarray()
            for frame in file.decode(video=0)
        ]


def at_24(frames: list[np.ndarray], times: Iterable[float]) -> list[np.ndarray]:
    """The first nine frames: each the last that begins before it, or less than 0.4 frames late."""
    begins = np.array(list(times)) * 24
    return [frames[np.flatnonzero(begins < n + 0.4)[-1]] for n in range(9)]


def on_white(path: Path) -> np.ndarray:
    """A picture (H, W, 3), what is behind it shown in white."""
    with Picture.open(path) as image:
        if image.mode != "RGBA":
            return np.asarray(image.convert("RGB"))
        pixels = np.asarray(image).astype(float)
    opacity = pixels[:, :, 3:] / 255
    return np.rint(pixels[:, :, :3] * opacity + 255 * (1 - opacity))


def pictures(clips: Path) -> dict[str, tuple[list[np.ndarray], tuple[int, int]]]:
    """What is encoded of each: frames, and rows and columns of its bucket."""
    phone = [np.rot90(frame) for frame in decoded(clips / "phone.mov")]
    moving = decoded(clips / "moves.gif")
    uneven = at_24(decoded(clips / "uneven.webm"), (time / 1000 for time in TIMES))
    found = {
        "phone": (phone[:9], (64, 32)),
        "uneven": (uneven, (32, 64)),
        "moves": (at_24(moving, (i * 0.04 for i in range(len(moving)))), (32, 64)),
        "alpha": ([on_white(clips / "alpha.png")], (32, 64)),
        "huge": ([on_white(clips / "huge.png")], (32, 64)),
        "rests": ([on_white(clips / "rests.gif")], (32, 64)),
    }
    plain = ("plain.mov", "surround.mp4", "silent.mp4", "a/same.mkv", "b/same.mkv", "日本 の海.mp4")
    for name in plain:
        stem = str(Path(name).with_suffix(""))
        found[stem] = (decoded(clips / name)[:9], (32, 64))
    return found


def test_latents_equal_those_of_a_direct_path(done, folder, tiny):
    encoder = load_video_encoder(
        open_checkpoint(tiny / "ltx-2.3-tiny.safetensors"), dtype=mx.float32
    )
    for stem, (frames, (height, width)) in pictures(folder / "clips").items():
        fitted = np.stack([cover(frame, height=height, width=width) for frame in frames])
        video = mx.array((fitted / 127.5 - 1).astype(np.float32).transpose(3, 0, 1, 2)[None])
        stored = mx.load(str(folder / "data" / "latents" / f"{stem}.safetensors"))
        assert isinstance(stored, dict)
        expected = encoder(video)[0]
        assert stored["latents"].shape == expected.shape, stem
        difference = mx.abs(stored["latents"] - expected).max().item()
        assert difference < 1e-5, stem
    with Picture.open(folder / "clips" / "huge.png") as image:
        assert image.size == HUGE


def test_a_data_set_gives_the_same_files(folder, tmp_path):
    """Of the same clips, as a table with bytes in it."""
    clips = folder / "clips"
    names = ["phone.mov", "surround.mp4", "alpha.png"]
    captions = [(clips / name).with_suffix(".txt").read_text().strip() for name in names]
    paths = [str(clips / name) for name in names]
    rows = {"video": [*paths[:2], None], "image": [None, None, paths[2]], "caption": captions}
    features = Features({"video": Video(), "image": Image(), "caption": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "table")
    (tmp_path / "clips").mkdir()
    for name in names:
        (tmp_path / "clips" / name).write_bytes((clips / name).read_bytes())
        text = Path(name).with_suffix(".txt")
        (tmp_path / "clips" / text).write_bytes((clips / text).read_bytes())
    for source in ("input_dir", "dataset"):
        place = tmp_path / ("clips" if source == "input_dir" else "table")
        config = PrecomputeConfig(
            tmp_path / source,
            "tiny",
            parse_buckets(BUCKETS[1]),
            **{source: place if source == "input_dir" else str(place)},
        )
        outcomes = precompute(config, report=lambda *_: None, say=lambda _: None)
        assert outcomes == [(name, "done", "") for name in sorted(names)]
    plain, table = written(tmp_path / "input_dir"), written(tmp_path / "dataset")
    assert {name for name in table if name.startswith("sources/")} == {
        f"sources/{name}" for name in names
    }
    assert plain == {name: table[name] for name in table if not name.startswith("sources/")}
    assert len(plain) == 3 + 3 + 2  # latents, conditions, the empty prompt and the list


def written(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
