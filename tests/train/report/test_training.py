"""report.html: what of a run is on it, and that it opens offline."""

import os

import numpy as np
import pytest

from ltx_infer.media.write import write_wav
from ltx_train.config import TrainConfig, read_config
from ltx_train.report import clips
from ltx_train.report.metrics import append, step_row, validation_row
from ltx_train.report.training import write_report
from tests.end_to_end.browser import open_page
from tests.train.report.made_run import CONFIG, FACTS, step, write_metrics, write_samples
from tests.train.report.wellformed import Reader, read


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    path = tmp_path / "lora.yaml"
    path.write_text(CONFIG)
    return read_config(path)


def written(folder, config, **changes) -> Reader:
    path = write_report(folder, config=config, **{"facts": FACTS, **changes})
    assert path == folder / "report.html"
    assert not list(folder.glob(".*"))
    return read(path.read_text(encoding="utf-8"))


def after(found: Reader, word: str) -> str:
    return found.words[found.words.index(word) + 1]


def test_a_run_that_goes(tmp_path, config):
    write_metrics(tmp_path / "metrics.jsonl", steps=120)
    write_samples(tmp_path, [0, 50, 100])
    found = written(tmp_path, config, notes=["adamw8bit: AdamW", FACTS.notes[0]])
    assert after(found, "step") == "120 of 200"
    assert after(found, "held-out loss") == "1.57"
    assert after(found, "its best, at step 100") == "1.57"
    assert after(found, "peak memory") == "22.5 GB"
    assert after(found, "to go") == "3 min"
    assert after(found, "skipped steps") == "0"
    charts = [given["aria-label"] for given in found.all("svg")]
    assert charts == [
        "Loss",
        "Loss of the samples that are held back",
        "Loss of the picture by noise level",
        "Loss of the sound by noise level",
        "Learning rate",
        "Norm of the gradient, before clipping",
        "Norm of the adapter: all lora_B",
        "Share of the layers that change nothing",
        "Seconds a step",
        "Memory in GB",
    ]
    assert "nothing recorded yet" not in found.words
    assert "are not shown" not in found.text
    videos = found.all("video", controls=None, loop=None, muted=None)
    assert len(videos) == 6
    assert all(given["src"].startswith("data:video/mp4;base64,AAAA") for given in videos)
    place = found.words.index("prompt")
    assert found.words[place : place + 4] == ["prompt", "step 0", "step 50", "step 100"]
    assert {"a <i>boat</i>", "waves", "adamw8bit: AdamW"} <= set(found.words)
    assert found.words.count(FACTS.notes[0]) == 1


def test_data_and_configuration(tmp_path, config):
    found = written(tmp_path, config)
    assert after(found, "trigger") == "ohwx"
    assert after(found, "captions with it") == "2"
    assert after(found, "768x512x49") == "2"
    assert found.words[found.words.index("b") : found.words.index("b") + 3] == [
        "b",
        "held back",
        "ohwx, waves",
    ]
    assert {"ohwx, a <b>boat</b>", "not known"} <= set(found.words)
    place = found.words.index("All that is at its default")
    changed, default = found.words[:place], found.words[place:]
    assert changed[changed.index("optimization.steps") + 1] == "200"
    assert changed[changed.index("validation.samples.1.prompt") + 1] == "waves"
    assert default[default.index("optimization.max_grad_norm") + 1] == "1.0"
    assert "optimization.steps" not in default
    assert "references" not in found.words
    reference = FACTS._replace(reference=FACTS.reference._replace(spatial=2))
    assert "1/2 in space, 1/1 in time" in written(tmp_path, config, facts=reference).words


def test_before_the_first_step(tmp_path, config):
    found = written(tmp_path, config)
    assert after(found, "step") == "0 of 200"
    assert found.words.count("nothing recorded yet") == 10
    assert "no samples yet" in found.words


def test_what_went_wrong_is_said(tmp_path, config):
    path = tmp_path / "metrics.jsonl"
    for row in (step(1), step(2, skipped=1), step(3, dead_share=0.25)):
        append(path, step_row(row, memory_active=1, memory_peak=2))
    append(path, validation_row(step=3, losses={}, seconds=1.0, faults=["sample 1 is black"]))
    found = written(tmp_path, config)
    assert after(found, "skipped steps") == "1"
    assert "Skipped, as loss or gradient were not finite: step 2." in found.words
    assert "Step 3: sample 1 is black" in found.words
    assert any(word.startswith("25% of the adapted layers still change") for word in found.words)


def test_without_a_held_back_sample_or_sound(tmp_path, config):
    lines = CONFIG.replace(", audio: {}", "").replace("lora: {rank: 32, alpha: 32}\n", "")
    (tmp_path / "full.yaml").write_text(
        lines.replace("{model_path:", "{training_mode: full, model_path:")
    )
    full = read_config(tmp_path / "full.yaml")
    write_metrics(tmp_path / "metrics.jsonl", steps=3)
    found = written(tmp_path, full, facts=FACTS._replace(trigger=None, held_out=[]))
    charts = [given["aria-label"] for given in found.all("svg")]
    assert "Norm of the adapter: all lora_B" not in charts
    assert "Loss of the sound by noise level" not in charts
    assert "sound" not in found.words
    assert "trigger" not in found.words


def test_clips_for_which_there_is_no_room_are_linked(tmp_path, config, monkeypatch):
    """The newest are in the page, then the baseline; the page says which are not."""
    write_samples(tmp_path, [0, 50, 100, 150])
    size = sum(path.stat().st_size for path in (tmp_path / "samples").iterdir()) // 4
    monkeypatch.setattr(clips, "ROOM", int(2.5 * size))
    found = written(tmp_path, config)
    assert len(found.all("video")) == 4
    links = [given["href"] for given in found.all("a")]
    assert links == [f"samples/step_{s:06}_{i}.mp4" for i in (1, 2) for s in (50, 100)]
    assert all((tmp_path / link).is_file() for link in links)
    assert len(found.all("img")) == 4
    assert "Not in this file, only linked, for their size: step 50, 100." in found.words


def test_stills_and_sounds(tmp_path, config):
    write_samples(tmp_path, [0], numbers=(3,))
    write_wav(tmp_path / "samples/step_000000_1.wav", np.zeros((2, 100), np.float32), rate=16_000)
    found = written(tmp_path, config)
    assert len(found.all("audio", controls=None)) == 1
    (image,) = found.all("img")
    assert image["alt"] == "step_000000_3.png"
    assert "sample 3" in found.words


def test_a_damaged_clip_stops_nothing(tmp_path, config, monkeypatch):
    write_samples(tmp_path, [0], numbers=(3,))
    (tmp_path / "samples/step_000000_1.mp4").write_bytes(b"x" * 100)
    (tmp_path / "samples/step_000000_3.png").write_bytes(b"x" * 100)
    found = written(tmp_path, config)
    assert {"step_000000_1.mp4 cannot be read", "step_000000_3.png cannot be read"} <= set(
        found.words
    )
    monkeypatch.setattr(clips, "ROOM", 0)
    found = written(tmp_path, config)
    assert (len(found.all("a")), len(found.all("img"))) == (2, 0)


def test_a_clip_that_is_made_anew_is_shown_anew(tmp_path, config):
    write_samples(tmp_path, [0], numbers=(1,))
    (before,) = written(tmp_path, config).all("video")
    path = tmp_path / "samples/step_000000_1.mp4"
    write_samples(tmp_path / "other", [5], numbers=(1,))
    (tmp_path / "other/samples/step_000005_1.mp4").replace(path)
    os.utime(path, ns=(1, 1))
    (now,) = written(tmp_path, config).all("video")
    assert before["src"] != now["src"]


@pytest.mark.slow
def test_it_opens_offline_without_a_word_on_the_console(tmp_path, config):
    write_metrics(tmp_path / "metrics.jsonl", steps=150)
    write_samples(tmp_path, [0, 50, 100, 150], numbers=(1, 2, 3))
    path = write_report(tmp_path, config=config, facts=FACTS)
    text = path.read_text(encoding="utf-8")
    play = (
        "<script>addEventListener('load', async () => {"
        "const all = [...document.querySelectorAll('video')];"
        "await Promise.all(all.map(one => one.play()));"
        "document.title = `${all.length} play, `"
        " + [...document.images].every(one => one.naturalWidth || one.loading)})</script></body>"
    )
    path.write_text(text.replace("</body>", play), encoding="utf-8")
    for _ in range(5):  # the page's time may run out before a busy machine has decoded its clips
        opened = open_page(path, tmp_path, size=(1240, 3000))
        assert opened.console == []
        if "8 play, true" in read(opened.dom).words:
            break
    assert "8 play, true" in read(opened.dom).words
    assert opened.screenshot.stat().st_size > 20_000
