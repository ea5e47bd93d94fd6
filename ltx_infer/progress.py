"""One line of progress a stage, on stderr: a moving bar in a terminal, plain text in a pipe."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many


class StageLines:
    """Call it with a stage's name, its steps done and their number, inside a ``with``."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._started: dict[str, float] = {}
        self._bars = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of the ``total`` steps of a stage are finished."""
        if self._bars is None:
            self._print(stage, done, total)
            return
        self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def _print(self, stage: str, done: int, total: int) -> None:
        start = self._started.setdefault(stage, time.perf_counter())
        if done == total:
            steps = f"{total} steps, " if total > 1 else ""
            seconds = time.perf_counter() - start
            print(f"{stage}: {steps}{seconds:.1f} s", file=sys.stderr, flush=True)  # noqa: T201

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._bars is not None:
            self._bars.stop()
