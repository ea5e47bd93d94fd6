"""Line charts: gaps, empty ones, axes, and ten thousand points."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_train.report.chart import (
    BOTTOM,
    LEFT,
    NUM_COLUMNS,
    NUM_MEANS,
    RIGHT,
    TOP,
    Series,
    chart,
    log_ticks,
    thinned,
    ticks_between,
)
from tests.train.report.wellformed import read


def points(part, kind: str = "curve", index: int = 0) -> np.ndarray:
    drawn = read(part).all("path", class_=kind)[index]["d"]
    return np.array(re.findall(r"[ML]([-\d.]+),([-\d.]+)", drawn), float)


def num_parts(part, kind: str = "curve") -> int:
    return read(part).all("path", class_=kind)[0]["d"].count("M")


def test_a_curve_spans_the_frame_and_its_last_value_is_said():
    part = chart("loss <b>", [Series("a & b", [0, 5, 10], [1.0, 3.0, 2.0])])
    x, y = points(part).T
    assert x.tolist() == [LEFT, (LEFT + RIGHT) / 2, RIGHT]
    assert TOP < y[1] < y[2] < y[0] < BOTTOM
    found = read(part)
    assert {"loss <b>", "a & b", "2"} <= set(found.words)
    (about,) = found.all("svg")
    assert json.loads(about["data-chart"] or "")["last"] == 10


def test_the_cursor_can_read_values_back_from_the_drawing():
    values = [0.5, 0.02, 3.0]
    for log in (False, True):
        part = chart("loss", [Series("a", [0, 1, 2], values)], log=log)
        about = json.loads(read(part).all("svg")[0]["data-chart"] or "")
        low, high = about["low"], about["high"]
        share = (about["bottom"] - points(part)[:, 1]) / (about["bottom"] - about["top"])
        back = low * (high / low) ** share if log else low + share * (high - low)
        assert np.allclose(back, values, rtol=0.005, atol=0 if log else 0.005)


def test_gaps_stay_gaps():
    part = chart("loss", [Series("a", range(6), [1, 2, math.nan, 2, math.inf, 1])])
    assert num_parts(part) == 3
    assert len(points(part)) == 6  # what stands alone is drawn as a line of no length
    assert num_parts(part, "dots") == 4
    assert "2 values are no finite numbers and are not shown" in read(part).text


def test_what_a_log_axis_cannot_show_is_counted():
    part = chart("loss", [Series("a", range(4), [1, 0, -2, 100])], log=True)
    assert "2 values are no positive finite numbers" in read(part).text
    assert num_parts(part) == 2


@pytest.mark.parametrize(
    ("series", "left_out"),
    [
        ([], None),
        ([Series("a", [], [])], None),
        ([Series("a", [1, 2], [math.nan, math.nan])], "2 values are no finite numbers"),
    ],
)
def test_without_values_the_chart_says_so(series, left_out):
    found = read(chart("loss", series))
    assert "nothing recorded yet" in found.text
    assert found.all("svg") == []
    assert left_out is None or left_out in found.text


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [1e-45, 3e38]])
def test_odd_ranges_are_drawn_inside_the_frame(values, log):
    x, y = points(chart("loss", [Series("a", range(len(values)), values)], log=log)).T
    assert ((x >= LEFT) & (x <= RIGHT) & (y >= TOP) & (y <= BOTTOM)).all()


def test_an_empty_series_takes_no_place_beside_a_full_one():
    found = read(chart("loss", [Series("none", [], []), Series("a", [0, 1], [1, 2])]))
    assert len(found.all("path", class_="curve")) == len(found.all("output")) == 1
    assert "var(--s1)" in (found.all("path", class_="curve")[0]["style"] or "")


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="a: 2 steps and 1 values"):
        chart("loss", [Series("a", [1, 2], [1])])


def test_ten_thousand_points_become_few_without_losing_an_extreme():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(10_000)
    values[7321], values[1234] = 50, -50
    part = chart("loss", [Series("a", range(10_000), values)])
    x, y = points(part).T
    assert len(x) <= 4 * NUM_COLUMNS
    assert len(part.text) < 30_000
    where = (x - LEFT) / (RIGHT - LEFT) * 9_999
    assert abs(where[y.argmin()] - 7321) < 2  # y points down
    assert abs(where[y.argmax()] - 1234) < 2


def test_every_second_value_missing_makes_no_endless_path():
    values = np.where(np.arange(10_000) % 2, math.nan, 1.0)
    part = chart("loss", [Series("a", range(10_000), values)])
    assert len(part.text) < 40_000


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_of_each_column_the_extremes_and_ends_are_kept(values, times):
    y = np.tile(values, times)
    x = np.linspace(LEFT, RIGHT, len(y))
    kept = thinned(x, y)
    assert (np.diff(kept) > 0).all()
    assert {0, len(y) - 1} <= set(kept.tolist())
    assert y[kept].min() == y.min()
    assert y[kept].max() == y.max()


def test_means_are_drawn_over_a_curve_of_many_points():
    values = [1.0, 3.0] * 500
    part = chart("loss", [Series("a", range(1000), values)], smooth=True)
    means = points(part)
    assert len(means) == NUM_MEANS
    assert len(points(part, "faint")) == 1000
    few = chart("loss", [Series("a", range(100), values[:100])], smooth=True)
    assert len(points(few)) == 100


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
@settings(max_examples=50, deadline=None)
def test_ticks_are_few_and_inside(low, width):
    ticks = ticks_between(low, low + width)
    assert len(ticks) <= 8
    slack = 1e-9 * max(abs(low), width)
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_round_ticks():
    assert ticks_between(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks_between(0.013, 0.087) == [0.02, 0.04, 0.06, 0.08]
    assert log_ticks(0.02, 3) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(1e-9, 1e3) == pytest.approx([1e-9, 1e-6, 1e-3, 1, 1e3])
    assert len(log_ticks(1e-200, 1)) < 12
