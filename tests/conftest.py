"""Options and start-up that all tests share."""

from pathlib import Path

import pytest

import ltx_models  # noqa: F401  (before mlx: it puts a fast BLAS in front)

GOLDEN = Path(__file__).parent / "parity" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", type=Path, default=GOLDEN, metavar="DIR", help="another folder of golden cases"
    )
