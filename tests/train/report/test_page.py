"""Pages of one file: escaped, well-formed, and closed to what lies outside."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_train.report.page import facts, find_box, join, note, number, page, section, table, tag
from tests.train.report.wellformed import read

EVIL = "</td><script>alert('\"&amp;')</script>"


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@settings(max_examples=50, deadline=None)
def test_any_text_comes_out_as_it_went_in(text):
    found = read(tag("p", text, title=text, data_key=text))
    assert "".join(found.words) == text
    assert found.all("p") == [{"title": text, "data-key": text}]


def test_each_part_of_the_toolkit_escapes():
    parts = [
        facts([(EVIL, EVIL)]),
        table([EVIL, "b"], [[EVIL, 1]]),
        table([EVIL], [], empty=EVIL),
        section(EVIL, EVIL, name=EVIL),
        note(EVIL),
        find_box(EVIL),
    ]
    found = read(page(EVIL, *parts))
    assert len(found.all("script")) == 1  # ours
    assert found.text.count("alert(") == 10


def test_attributes():
    assert tag("input", disabled=True, checked=False, value=None, class_="a").text == (
        '<input disabled class="a">'
    )
    assert join("a < b", None, 3, tag("b", "c")).text == "a &lt; b3<b>c</b>"


def test_numbers_as_people_write_them():
    said = {
        0: "0", 10000: "10,000", 2e-4: "2e-4", 0.12345: "0.123", 1.5: "1.5", 31.415: "31.4",
        -0.5: "-0.5", 12345678: "1.23e7", 100: "100", math.nan: "n/a", -math.inf: "n/a",
    }  # fmt: skip
    assert {value: number(value) for value in said} == said


def test_a_table_sorts_by_numbers_and_sets_them_right_where_all_are():
    found = read(table(["name", "loss", "mixed"], [["a", 0.51234567, 1], ["b", None, "x"]]))
    keys = [given.get("data-key") for given in found.all("td")]
    assert keys == [None, "0.51234567", "1", None, None, None]
    assert [given.get("class") for given in found.all("td")] == [
        None, "number", None, None, "number", None
    ]  # fmt: skip
    assert "0.5123" in found.words


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 columns, and a row of 1: \\['x'\\]"):
        table(["a", "b"], [["a", "b"], ["x"]])


def test_a_page_refers_to_nothing_outside():
    text = page("title", note("text"))
    assert text.startswith("<!doctype html>\n")
    assert re.findall(r"(?:https?:|//\w|url\(|@import)", text) == []
    (policy,) = read(text).all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in (policy["content"] or "")
