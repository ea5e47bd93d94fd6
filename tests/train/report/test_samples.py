"""The grid of samples by prompt and step."""

from ltx_train.report.page import tag
from ltx_train.report.samples import Sample, sample_grid
from tests.train.report.wellformed import read


def test_a_row_a_prompt_and_a_column_a_step():
    samples = [
        Sample(step, prompt, tag("b", f"{prompt}@{step}"))
        for step, prompt in [(200, "z <i>"), (0, "z <i>"), (0, "a"), (0, "a")]
    ]
    found = read(sample_grid(samples))
    assert found.words == [
        "prompt", "step 0", "step 200", "z <i>", "z <i>@0", "z <i>@200", "a", "a@0", "a@0", "none"
    ]  # fmt: skip
    assert len(found.all("td")) == 4


def test_without_samples_it_says_so():
    assert read(sample_grid([])).words == ["no samples yet"]
