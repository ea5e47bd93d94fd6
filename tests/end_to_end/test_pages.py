"""Our pages in a real browser, offline: nothing on its console, and what moves on them moves."""

from pathlib import Path

import numpy as np
import pytest

from ltx_train.precompute.cli import main
from ltx_train.report.chart import Series, chart
from ltx_train.report.media import clip
from ltx_train.report.page import Html, facts, find_box, page, section, table, tag
from ltx_train.report.samples import Sample, sample_grid
from tests.end_to_end import browser
from tests.end_to_end.browser import find_browser, open_page
from tests.train.conftest import write_pair
from tests.train.report.wellformed import read

pytestmark = pytest.mark.slow
FRAMES = np.arange(9 * 32 * 64 * 3, dtype=np.int64).reshape(9, 32, 64, 3).astype(np.uint8)


def script(text: str) -> Html:
    """Something that is done on a page, after its own scripts."""
    return Html(f"<script>addEventListener('load', () => {{{text}}})</script>")


def test_preview_opens_offline_without_a_word_on_the_console(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("waves.mp4", "boats/<i>red.mp4"):
        write_pair(tmp_path / "clips", name, caption=f"a lighthouse & {name}")
    write_pair(tmp_path / "clips", "short.mp4", frames=3)
    words = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data", "--preview")
    main([*words, "--resolution-buckets", "64x64x9"])
    path = tmp_path / "data/preview.html"
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    opened = open_page(path, tmp_path)
    assert opened.console == []
    found = read(opened.dom)
    assert len(found.all("article")) == 2
    assert {"waves.mp4", "boats/<i>red.mp4", "a lighthouse & waves.mp4"} <= set(found.words)
    assert found.words[found.words.index("short.mp4") + 1] == "skipped"
    assert opened.screenshot.stat().st_size > 20_000


def test_all_that_a_report_has_opens_without_a_word_on_the_console(tmp_path):
    values = np.sin(np.arange(10_000)) + 2
    shown = clip(FRAMES, fps=24)
    text = page(
        "report",
        facts([("steps", 10_000)]),
        section(
            "Curves", chart("loss", [Series("a", range(10_000), values)], log=True, smooth=True)
        ),
        section("Samples", sample_grid([Sample(0, "a boat", shown), Sample(9, "a boat", shown)])),
        script("document.title = [...document.images].every(one => one.naturalWidth) + '!'"),
    )
    (tmp_path / "report ä #1.html").write_text(text, encoding="utf-8")
    opened = open_page(tmp_path / "report ä #1.html", tmp_path)
    assert opened.console == []
    assert "true!" in read(opened.dom).words


def test_tables_are_sorted_by_a_click_and_filtered_by_a_word(tmp_path):
    rows = [["b", 10.0], ["a", 9.0], ["c < d", 100.0], ["e", None]]
    text = page(
        "table",
        find_box("a row"),
        table(["name", "loss"], rows),
        script(
            "const loss = document.querySelectorAll('th button')[1]; loss.click(); loss.click();"
            "const box = document.querySelector('input'); box.value = ' C < '; "
            "box.dispatchEvent(new Event('input'))"
        ),
    )
    (tmp_path / "table.html").write_text(text)
    opened = open_page(tmp_path / "table.html", tmp_path)
    assert opened.console == []
    found = read(opened.dom)
    assert [given["aria-sort"] for given in found.all("th", class_="number")] == ["descending"]
    cells = [word for word in found.words if word in {"a", "b", "c < d", "e"}]
    assert cells == ["c < d", "b", "a", "e"]
    assert ["hidden" in given for given in found.all("tr")[1:]] == [False, True, True, True]


def test_a_chart_says_the_value_under_the_cursor(tmp_path):
    series = [Series("a", [0, 50, 100], [1.0, 10.0, 100.0]), Series("b", [0, 100], [7.0, 7.0])]
    move = (
        "const svg = document.querySelector('svg'), box = svg.getBoundingClientRect();"
        "svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width * 0.53}))"
    )
    (tmp_path / "chart.html").write_text(page("chart", chart("x", series, log=True), script(move)))
    opened = open_page(tmp_path / "chart.html", tmp_path)
    assert opened.console == []
    words = read(opened.dom).words
    assert words[words.index("a") + 1].startswith(("10 at 50", "9.99 at 50", "10.1 at 50"))
    assert words[words.index("b") + 1].endswith((" at 0", " at 100"))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (tag("img", src="https://example.com/a.png"), "Content Security Policy"),
        (Html("<script>console.warn('beware')</script>"), "beware"),
        (Html("<script>missing()</script>"), "missing is not defined"),
    ],
)
def test_a_fault_would_be_seen(part, said, tmp_path):
    (tmp_path / "bad.html").write_text(page("bad", part))
    (found,) = open_page(tmp_path / "bad.html", tmp_path).console
    assert said in found


def test_without_a_browser_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(browser, "CHROME_ON_MAC", Path("/nowhere"))
    with pytest.raises(AssertionError, match="apt-get install chromium, or pip install playwright"):
        find_browser()
    there = tmp_path / "chromium-1200/chrome-linux/chrome"
    there.parent.mkdir(parents=True)
    there.touch()
    assert find_browser() == there
