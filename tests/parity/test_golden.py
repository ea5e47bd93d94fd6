"""Every case of a golden folder against our own networks; one test a case."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.case import read_case, read_index
from tests.parity.components import COMPONENTS, PENDING


def compare(got: np.ndarray, want: np.ndarray, tolerance: Mapping[str, Any]) -> str | None:
    """None where a result is near enough, else what is wrong with it."""
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    if tolerance.get("exact"):
        wrong = got != want
        return f"{wrong.sum()} of {want.size} values differ" if wrong.any() else None
    allowed = tolerance["atol"] + tolerance["rtol"] * np.abs(want)
    error = np.abs(got.astype(np.float64) - want)
    near = error <= allowed  # False for NaN as well
    if near.all():
        return None
    worst = np.max(error / allowed)
    return f"{(~near).sum()} of {want.size} values off, worst {worst:.3g} x allowed"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_name" in metafunc.fixturenames:
        cases = read_index(metafunc.config.getoption("golden"))["cases"]
        names = [name for name, case in cases.items() if case["component"] not in PENDING]
        metafunc.parametrize("golden_name", names)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    return request.config.getoption("golden")


def test_case(golden: Path, golden_name: str):
    case = read_case(golden, golden_name)
    assert case.component == read_index(golden)["cases"][golden_name]["component"]
    assert case.component in COMPONENTS, f"unknown component {case.component!r}"
    listed = read_index(golden)["cases"][golden_name]["outputs"]
    assert case.expected.keys() == listed.keys(), "the file has other outputs than the index says"
    assert case.expected, "the case expects nothing"
    got = COMPONENTS[case.component](case)
    for name, want in case.expected.items():
        assert name in got, f"{name} was not computed"
        problem = compare(np.asarray(got[name]), want, case.tolerance[name])
        assert problem is None, f"{name}: {problem}"


def test_every_file_is_a_case(golden: Path):
    listed = {case["file"] for case in read_index(golden)["cases"].values()}
    assert listed
    there = {f"cases/{path.name}" for path in (golden / "cases").glob("*.safetensors")}
    assert listed == there


def test_pending_components_are_known_and_not_built(golden: Path):
    counts = Counter(case["component"] for case in read_index(golden)["cases"].values())
    assert not PENDING & COMPONENTS.keys()
    assert counts.keys() <= PENDING | COMPONENTS.keys()
    for name, listed in read_index(golden)["cases"].items():
        assert read_case(golden, name).component == listed["component"], name


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        ([1.0, 2.0], None),
        ([1.0, 2.2], "1 of 2 values off, worst 18.2 x allowed"),
        ([1.0, float("nan")], "1 of 2 values off"),
        ([1.0], "shape (1,), expected (2,)"),
    ],
)
def test_comparison(got, problem):
    found = compare(np.array(got), np.array([1.0, 2.0]), {"atol": 0.001, "rtol": 0.005})
    assert (found is None) == (problem is None)
    assert problem is None or found.startswith(problem)


def test_comparison_exact():
    assert compare(np.array([1, 2]), np.array([1, 2]), {"exact": True}) is None
    assert compare(np.array([1, 3]), np.array([1, 2]), {"exact": True})
