"""Line charts as SVG, their axis linear or logarithmic; many points are thinned to what shows."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ltx_train.report.page import Html, join, note, number, tag

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 58, WIDTH - 10, 10, HEIGHT - 26  # of the part that has the curves
NUM_COLUMNS = 400  # a curve has at most four points in each
NUM_MEANS = 80  # of a smoothed curve
FEW = 60  # points that are marked one by one
NUM_TICKS = 5
NUM_COLORS = 8


class Series(NamedTuple):
    """One curve; values that are not finite are gaps in it."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


class Axes(NamedTuple):
    """The ranges of a chart: its first and last step, its lowest and highest value."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def x(self, steps: np.ndarray) -> np.ndarray:
        """Steps in the SVG's units."""
        span = (self.last - self.first) or 1.0
        return LEFT + (steps - self.first) / span * (RIGHT - LEFT)

    def y(self, values: np.ndarray) -> np.ndarray:
        """Values in the SVG's units."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return BOTTOM - (values - low) / (high - low) * (BOTTOM - TOP)


def chart(
    title: str,
    series: Sequence[Series],
    *,
    log: bool = False,
    smooth: bool = False,
    x_name: str = "step",
) -> Html:
    """Curves in one frame, with their names and last values.

    ``smooth``: over a curve of many points their means are drawn. How many values are no finite
    numbers, or not above 0 where ``log``, is said below; without any to show that is said instead.
    Raises ValueError for steps and values of different lengths.
    """
    curves = [_shown(one, log=log) for one in series]
    left_out = sum(len(one.values) for one in series) - sum(int(ok.sum()) for _, _, ok in curves)
    parts = [tag("h3", title)]
    if any(ok.any() for _, _, ok in curves):
        axes = _axes(curves, log=log)
        drawn = [_drawn(curve, axes, index, smooth=smooth) for index, curve in enumerate(curves)]
        lines = [*_value_lines(axes), *_step_marks(axes, x_name=x_name), *drawn]
        parts += [_svg(title, lines, axes), _legend(series, curves)]
    else:
        parts.append(note("nothing recorded yet"))
    if left_out:
        kind = "positive finite numbers" if log else "finite numbers"
        parts.append(tag("figcaption", f"{left_out} values are no {kind} and are not shown"))
    return tag("figure", *parts)


Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # steps, values, and whether one can be shown


def _shown(one: Series, *, log: bool) -> Curve:
    steps, values = np.asarray(one.steps, float), np.asarray(one.values, float)
    if steps.shape != values.shape:
        raise ValueError(f"{one.name}: {len(steps)} steps and {len(values)} values")
    ok = np.isfinite(values) & np.isfinite(steps)
    return steps, values, ok & (values > 0) if log else ok


def _axes(curves: Sequence[Curve], *, log: bool) -> Axes:
    steps = np.concatenate([steps[ok] for steps, _, ok in curves])
    values = np.concatenate([values[ok] for _, values, ok in curves])
    low, high = float(values.min()), float(values.max())
    if log:  # a little room above and below, and some where all values are one
        room = max((high / low) ** 0.05, 1.05)
        low, high = low / room, high * room
    else:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = low - room if low < 0 or low - room > 0 else 0.0, high + room
    return Axes(float(steps.min()), float(steps.max()), low, high, log)


def _svg(title: str, parts: Sequence[Html], axes: Axes) -> Html:
    about = dict(left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, **axes._asdict())
    return tag(
        "svg",
        *parts,
        tag("line", class_="cursor", y1=TOP, y2=BOTTOM, style="visibility:hidden"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
        data_chart=json.dumps(about),
    )


def _drawn(curve: Curve, axes: Axes, index: int, *, smooth: bool) -> Html:
    """A curve as paths; of those the one that is not faint is what the cursor reads."""
    num_shown, color = int(curve[2].sum()), f"stroke:{_color(index)}"
    if not num_shown:
        return join()
    if smooth and num_shown > 2 * NUM_MEANS:
        faint = tag("path", d=_path(curve, axes), class_="faint", style=color)
        return join(faint, tag("path", d=_path(_means(curve), axes), class_="curve", style=color))
    line = tag("path", d=_path(curve, axes), class_="curve", style=color)
    if num_shown > FEW:
        return line
    steps, values, ok = curve
    places = zip(axes.x(steps[ok]), axes.y(values[ok]), strict=True)
    dots = "".join(f"M{x:.1f},{y:.1f}h0" for x, y in places)
    return join(line, tag("path", d=dots, class_="dots", style=color))


def _means(curve: Curve) -> Curve:
    """The means of NUM_MEANS equal parts of a curve; gaps are passed over."""
    steps, values, ok = curve
    bounds = np.arange(NUM_MEANS) * ok.sum() // NUM_MEANS
    lengths = np.diff(bounds, append=ok.sum())
    means = [np.add.reduceat(array[ok], bounds) / lengths for array in (steps, values)]
    return means[0], means[1], np.ones(NUM_MEANS, bool)


def _path(curve: Curve, axes: Axes) -> str:
    steps, values, ok = curve
    run = np.cumsum(~ok)[ok]  # the same number for what no gap parts
    x, y = axes.x(steps[ok]), axes.y(values[ok])
    kept = thinned(x, y)
    x, y, run, column = x[kept], y[kept], run[kept], _columns(x)[kept]
    starts = np.ones(len(x), bool)
    starts[1:] = (np.diff(run) > 0) & (np.diff(column) > 0)
    alone = starts & np.append(starts[1:], True)
    return "".join(
        f"{'M' if start else 'L'}{a:.1f},{b:.1f}" + (f"L{a:.1f},{b:.1f}" if dot else "")
        for a, b, start, dot in zip(x, y, starts, alone, strict=True)
    )


def thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points make the same picture: the first, last, lowest and highest of each column.

    Indices in order, at most four for each of NUM_COLUMNS equal parts of ``x``, which ascends.
    """
    if len(x) <= 4 * NUM_COLUMNS:
        return np.arange(len(x))
    bounds = np.flatnonzero(np.diff(_columns(x), prepend=-1, append=NUM_COLUMNS)).tolist()
    kept: list[int] = []
    for start, stop in pairwise(bounds):
        part = y[start:stop]
        kept += [start, start + int(part.argmin()), start + int(part.argmax()), stop - 1]
    return np.unique(kept)


def _columns(x: np.ndarray) -> np.ndarray:
    """For each place in the part that has the curves, in which of NUM_COLUMNS it lies."""
    return ((x - LEFT) / (RIGHT - LEFT) * NUM_COLUMNS).astype(int).clip(0, NUM_COLUMNS - 1)


def _value_lines(axes: Axes) -> list[Html]:
    ticks = log_ticks(axes.low, axes.high) if axes.log else ticks_between(axes.low, axes.high)
    parts = []
    for tick, y in zip(ticks, axes.y(np.array(ticks)), strict=True):
        at = f"{y:.1f}"
        parts.append(tag("line", class_="grid", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        parts.append(
            tag(
                "text",
                number(tick),
                x=LEFT - 6,
                y=at,
                text_anchor="end",
                dominant_baseline="middle",
            )
        )
    return parts


def _step_marks(axes: Axes, *, x_name: str) -> list[Html]:
    whole = [tick for tick in ticks_between(axes.first, axes.last) if tick == int(tick)]
    ticks = whole or [axes.first]
    parts = [tag("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)]
    for index, (tick, x) in enumerate(zip(ticks, axes.x(np.array(ticks)), strict=True)):
        said = f"{x_name} {number(tick, 7)}" if index == 0 else number(tick, 7)
        anchor = "end" if x > RIGHT - 20 and index else "start" if x < LEFT + 30 else "middle"
        parts.append(tag("text", said, x=f"{x:.1f}", y=HEIGHT - 8, text_anchor=anchor))
    return parts


def ticks_between(low: float, high: float) -> list[float]:
    """About NUM_TICKS round numbers from ``low`` to ``high``."""
    if low == high:
        return [low]
    rough = (high - low) / NUM_TICKS
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``, with 2 and 5 times them where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if len(powers) > 2 * NUM_TICKS:
        powers = powers[:: -(-len(powers) // NUM_TICKS)]
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in found if low <= tick <= high] or ticks_between(low, high)


def _legend(series: Sequence[Series], curves: Sequence[Curve]) -> Html:
    return tag(
        "div",
        *(
            tag(
                "span",
                tag("i", style=f"background:{_color(index)}"),
                one.name,
                tag("output", number(values[ok][-1])),
            )
            for index, (one, (_, values, ok)) in enumerate(zip(series, curves, strict=True))
            if ok.any()
        ),
        class_="legend",
    )


def _color(index: int) -> str:
    return f"var(--s{index % NUM_COLORS})"
