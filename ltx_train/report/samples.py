"""The clips that a model makes as it learns: a row a prompt, a column a step."""

from collections.abc import Sequence
from typing import NamedTuple

from ltx_train.report.page import Html, note, tag


class Sample(NamedTuple):
    """What was made for a prompt at a step: a picture, a player, or why there is none."""

    step: int
    prompt: str
    shown: Html


def sample_grid(samples: Sequence[Sample]) -> Html:
    """Samples by prompt, in the order in which these come, and by step, the first on the left.

    Several of one prompt and step stand one below the other.
    """
    if not samples:
        return note("no samples yet")
    steps = sorted({sample.step for sample in samples})
    cells: dict[str, dict[int, list[Html]]] = {}
    for step, prompt, shown in samples:
        cells.setdefault(prompt, {}).setdefault(step, []).append(shown)
    head = tag("tr", tag("th", "prompt"), *(tag("th", f"step {step}") for step in steps))
    rows = [
        tag(
            "tr",
            tag("th", prompt, scope="row"),
            *(tag("td", *by_step.get(step, [note("none")])) for step in steps),
            data_item=True,
        )
        for prompt, by_step in cells.items()
    ]
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", *rows), class_="samples"),
        class_="wide",
    )
