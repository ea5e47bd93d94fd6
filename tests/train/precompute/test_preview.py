"""The preview: what it shows of each clip, in which order, and of what is missing."""

import math
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.video import video_pixels
from ltx_infer.media.write import write_clip
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.video_vae import VideoVAEConfig, load_video_decoder
from ltx_models.weights import TensorFile
from ltx_train.data.layout import LATENTS, sample_path
from ltx_train.inputs.buckets import Bucket
from ltx_train.inputs.item import Outcome
from ltx_train.inputs.items import find_items
from ltx_train.inputs.sheet import Seen, understand
from ltx_train.precompute import preview
from ltx_train.precompute.card import BOX, peak_ratio
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.preview import write_preview
from ltx_train.precompute.run import precompute
from tests.train.report.test_media import data
from tests.train.report.wellformed import Reader, read

CLIP, STILL = Bucket(64, 32, 9), Bucket(64, 32, 1)
CAPTION = "<script>alert(1)</script> & 'waves'"


class Run(NamedTuple):
    """What a run was asked, has seen and has made."""

    config: PrecomputeConfig
    seen: list[Seen]
    outcomes: list[Outcome]
    checkpoint: Checkpoint

    def page(self) -> Reader:
        return read(write_preview(*self, report=quiet).read_text(encoding="utf-8"))


def quiet(stage: str, done: int, total: int) -> None:
    """Nothing is said."""


def write_all(folder: Path) -> None:
    """Three clips and a still of different kinds, references, masks, and what is none."""
    y, x = np.mgrid[:64, :128]
    steps = np.arange(10)[:, None, None]
    smooth = np.stack(np.broadcast_arrays(x + 4 * steps, y * 2, 99 + 0 * x), -1).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, smooth.shape, np.uint8)
    tone = 0.5 * np.sin(np.arange(24000) / 15).astype(np.float32)
    sound = {"audio": tone, "sampling_rate": 48000}
    clips = {
        "smooth.mp4": (smooth, {}),
        "sub/noise.mp4": (noise, sound),
        "dark.mp4": (smooth // 9, {}),
    }
    for kind in ("clips", "references", "masks"):
        for name, (frames, more) in clips.items():
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            changed = {"clips": frames, "references": 255 - frames, "masks": 255 * (frames > 127)}
            write_clip(path, [changed[kind].astype(np.uint8)], fps=24, **more)
        Image.fromarray(smooth[0]).save(folder / kind / "still.png")
    for name in ("smooth", "sub/noise", "dark", "still", "broken"):
        (folder / f"clips/{name}.txt").write_text(CAPTION)
    (folder / "clips/broken.mp4").write_bytes(b"no clip")
    shutil.copy(folder / "clips/broken.mp4", folder / "references")
    shutil.copy(folder / "clips/broken.mp4", folder / "masks")
    (folder / "clips/notes.md").write_text("notes")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("preview")
    write_all(folder)
    config = PrecomputeConfig(
        folder / "data",
        "tiny",
        (CLIP, STILL),
        folder / "clips",
        with_audio=True,
        trigger="WAVE",
        reference_dir=folder / "references",
        video_mask_dir=folder / "masks",
        preview=True,
    )
    outcomes = precompute(config, report=quiet, say=lambda line: None)
    assert [one.status for one in outcomes].count("done") == 4, outcomes
    assert (folder / "data/preview.html").stat().st_size > 50_000
    checkpoint = open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")
    scale = checkpoint.section("vae", VideoVAEConfig).scale
    seen, _ = understand(find_items(config)[0], config, scale)
    return Run(config, seen, outcomes, checkpoint)


@pytest.fixture(scope="module")
def page(run) -> Reader:
    return run.page()


def ratio(run: Run, name: str) -> float:
    """The PSNR of a clip by another way: float32 pixels, decoded at once."""
    height, width = CLIP.height, CLIP.width
    source = video_pixels(
        run.config.input_dir / name, height=height, width=width, max_frames=CLIP.num_frames
    )
    file = TensorFile(sample_path(run.config.output_dir, LATENTS, Path(name).with_suffix("")))
    decoder = load_video_decoder(run.checkpoint, dtype=mx.float32)
    decoded = np.array(decoder(file.tensors("", [LATENTS])[LATENTS][None])).clip(-1, 1)
    return 10 * math.log10(4 / np.square(source - decoded).mean(dtype=np.float64))


def test_a_card_a_clip_the_worst_first(run, page):
    shown = [
        float(match[1]) for word in page.words if (match := re.fullmatch(r"([\d.]+) dB", word))
    ]
    assert len(page.all("article")) == len(shown) == 4
    assert shown == sorted(shown)
    for name in ("smooth.mp4", "sub/noise.mp4", "dark.mp4"):
        near = page.words[page.words.index(name) + 1]
        assert float(near.removesuffix(" dB")) == pytest.approx(ratio(run, name), abs=0.05)


def test_what_is_said_of_a_clip(page):
    at = page.words.index("sub/noise.mp4")
    said = page.words[at : at + 24]
    assert said[2:7] == ["64x32x9", "24 fps", "0.375 s", "WAVE", f" {CAPTION}"]
    pictures = ["source", "decoded", "reference", "decoded", "mask", "playing"]
    assert [word for word in said if word in pictures] == [*pictures, "decoded"]  # and its sound
    assert any(re.fullmatch(r"0.375 s, 48 kHz, peak -[56]\.\d dB", word) for word in said)
    assert len(page.all("video")) == 3  # all but the still
    assert len(page.all("script")) == 1


def test_pictures_are_of_the_frames_that_were_encoded(run, page):
    name = "smooth.mp4"
    video = video_pixels(run.config.input_dir / name, height=32, width=64, max_frames=9)
    names = {one.item.name for one in run.seen}
    order = [word for word in page.words if word in names]
    first = page.all("img")[5 * order.index(name)]  # after source, two of a reference, mask
    strip = np.asarray(Image.open(data(first["src"], "image/jpeg"))).astype(int)
    size = (BOX["width"], strip.shape[0])
    for index, frame in enumerate((0, 2, 4, 6, 8)):
        pixels = np.rint((video[0, :, frame].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        wanted = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        part = strip[:, index * (size[0] + 2) :][:, : size[0]]
        assert np.abs(part - wanted).mean() < 4


def test_totals_and_what_was_left_out(page):
    numbers = dict(zip(page.words[4:16:2], page.words[5:17:2], strict=True))
    assert list(numbers.values()) == ["3", "1", "1.12", "1", "1", "1"]
    assert list(numbers)[-2:] == ["skipped", "failed"]
    at = page.words.index("what became of it") + 2
    assert page.words[at : at + 2] == ["broken.mp4", "failed"]
    assert page.words[at + 3 : at + 5] == ["notes.md", "skipped"]


def test_a_source_that_is_gone_or_changed_is_said_first(run, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(run.config.input_dir, folder)
    (folder / "dark.mp4").unlink()
    shutil.copy(folder / "still.png", folder / "smooth.mp4")
    seen = [one._replace(item=one.item._replace(path=folder / one.item.name)) for one in run.seen]
    found = run._replace(seen=seen).page()
    names = [word for word in found.words if word in {one.item.name for one in seen}]
    assert names[:2] == ["dark.mp4", "smooth.mp4"]
    assert found.words.count("no source") == 2
    assert [word for word in found.words if word.startswith("cannot be read: ")][:2] == [
        f"cannot be read: {folder / 'dark.mp4'}: no such file or folder",
        f"cannot be read: {folder / 'smooth.mp4'}: is a picture, not a video",
    ]


def test_past_the_worst_a_clip_is_a_row(run, monkeypatch):
    monkeypatch.setattr(preview, "MOST_CARDS", 1)
    monkeypatch.setattr(preview, "MOST_ROWS", 2)
    found = run.page()
    assert len(found.all("article")) == 1
    assert len(found.all("img")) == 5 + 2
    assert "The 1 worst are shown in full" in found.text
    assert "Of these 3 it has the 2 worst." in found.text


def test_with_nothing_to_see_the_page_says_so(run):
    found = run._replace(seen=[], outcomes=[Outcome("a.mp4", "failed", "why & how")]).page()
    assert "There is nothing to be seen: no clip was encoded." in found.text
    assert "why & how" in found.words


def test_a_clip_that_failed_has_no_card(run):
    failed = [one._replace(status="failed", reason="why") for one in run.outcomes]
    assert run._replace(outcomes=failed).page().all("article") == []


def test_peak_ratio():
    dark = np.zeros((2, 4, 4, 3), np.uint8)
    assert peak_ratio(dark, dark) == math.inf
    assert peak_ratio(dark, dark + 255) == 0
    assert peak_ratio(dark, dark + 51) == pytest.approx(20 * math.log10(5))
