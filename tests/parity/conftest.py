"""Say how many golden cases wait for work that is not done yet."""

from collections import Counter

import pytest

from tests.parity.case import read_index
from tests.parity.components import PENDING


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    cases = read_index(config.getoption("golden"))["cases"]
    counts = Counter(case["component"] for case in cases.values())
    pending = {name: count for name, count in sorted(counts.items()) if name in PENDING}
    if pending:
        listed = ", ".join(f"{name} {count}" for name, count in pending.items())
        terminalreporter.write_line(f"golden cases pending: {sum(pending.values())} ({listed})")
