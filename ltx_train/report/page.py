"""HTML pages in one file: what is not marked as HTML is escaped, and nothing is fetched."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from ltx_train.report.look import SCRIPT, STYLE

VOID = {"img", "input", "meta", "br"}  # elements without an end
# The browser itself refuses whatever would come from elsewhere.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


class Html(NamedTuple):
    """Markup that goes into a page as it is."""

    text: str


Part = Html | str | float | None  # None is shown as nothing
Attribute = str | float | bool | None  # False and None are left out, True has no value


def tag(name: str, /, *parts: Part, **attributes: Attribute) -> Html:
    """An element; text and numbers in it are escaped.

    ``class_`` is class, and other underscores are hyphens: ``data_key`` is data-key.
    """
    given = "".join(
        f" {_name(key)}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*parts).text}</{name}>")


def join(*parts: Part) -> Html:
    """Parts one after the other, text and numbers escaped."""
    return Html("".join(_text(part) for part in parts))


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, as people write it; "n/a" if it is not finite."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        written = f"{value:,.{max(decimals, 0)}f}"
        return written.rstrip("0").rstrip(".") if "." in written else written
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def facts(pairs: Sequence[tuple[str, Part]]) -> Html:
    """A row of names, each with its value in large."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", _shown(value))) for name, value in pairs),
        class_="facts",
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Part]], *, empty: str = "none") -> Html:
    """A table that is sorted by a click on a column's name; ``empty`` is said if it has no rows.

    Raises ValueError for a row that is not as long as the columns.
    """
    if not rows:
        return note(empty)
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise ValueError(f"{len(columns)} columns, and a row of {len(wrong[0])}: {wrong[0]}")
    kinds = [
        "number" if all(isinstance(part, int | float | None) for part in column) else None
        for column in zip(*rows, strict=True)
    ]
    heads = (
        tag("th", tag("button", name, type="button"), class_=kind)
        for name, kind in zip(columns, kinds, strict=True)
    )
    body = [tag("tr", *map(_cell, row, kinds), data_item=True) for row in rows]
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="sortable"),
        class_="wide",
    )


def section(title: str, *parts: Part, name: str | None = None) -> Html:
    """Parts under a heading; ``name`` is what a link to it says after #."""
    return tag("section", tag("h2", title), *parts, id=name)


def note(*parts: Part) -> Html:
    """A remark."""
    return tag("p", *parts, class_="note")


def find_box(what: str) -> Html:
    """A field that leaves only the items and rows of its section, or page, that have its text."""
    return tag("input", type="search", placeholder=f"Find {what}", aria_label=f"Find {what}")


def page(title: str, *parts: Part) -> str:
    """A whole page, ready to be written as UTF-8."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("main", tag("h1", title), *parts), tag("script", Html(SCRIPT)))
    return f'<!doctype html>\n<html lang="en">{head.text}{body.text}</html>\n'


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(part: Part) -> str:
    if part is None:
        return ""
    return part.text if isinstance(part, Html) else html.escape(str(part))


def _shown(part: Part) -> Part:
    return number(part) if isinstance(part, int | float) else part


def _cell(part: Part, kind: str | None) -> Html:
    if isinstance(part, int | float):  # the key sorts by the number itself
        return tag("td", number(part, 4), class_=kind, data_key=part)
    return tag("td", part, class_=kind)
