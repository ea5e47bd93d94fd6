"""One line of progress a stage, on stderr: a moving bar in a terminal, plain text in a pipe."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ltx_infer.hub.place import shown_size
from ltx_models import peak
from ltx_models.errors import printable

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many
QUIET = 60.0  # seconds after which a stage in a pipe says where it is


class Moment(NamedTuple):
    """A stage at its begin and after some of its steps; times in seconds, memory in bytes."""

    stage: str
    done: int
    total: int
    began: bool  # whether it is the first of its stage
    seconds: float  # since then
    pace: float | None  # a step; None before the first
    peak: int

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.total

    @property
    def left(self) -> float | None:
        """Seconds that the other steps will take; None before the first is done."""
        return None if self.pace is None else self.pace * (self.total - self.done)


class _Stage:
    """A stage that is not finished."""

    def __init__(self, now: float):
        self.begun = self.shown = now
        self.first: tuple[int, float] | None = None  # steps done and time at the first report
        self.done = 0
        self.peak = peak.begin()

    def pace(self, done: int, now: float) -> float | None:
        """Seconds a step, without the first ones, which load a network and compile, where it can.

        Steps that are done are counted by what was reported, so that the last is one of them.
        """
        if done == 0:
            return None
        if self.first is None:
            self.first = done, now
        steps, at = self.first
        return (now - at) / (done - steps) if done > steps else (now - self.begun) / done


def _ignore(_moment: Moment) -> None:
    pass


class StageLines:
    """Call it with a stage's name, its steps done and their number, inside a ``with``.

    ``also`` is told of each moment. A stage begins when it is named first, and anew when it is
    named again after its end, or with fewer steps done. ``stream`` is stderr unless it is given.
    """

    def __init__(
        self,
        also: Callable[[Moment], None] = _ignore,
        *,
        now: Callable[[], float] = time.perf_counter,
        stream: TextIO | None = None,
    ) -> None:
        self._also, self._now, self._stream = also, now, stream
        self._stages: dict[str, _Stage] = {}
        self._bars = _bars(stream or sys.stderr)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of the ``total`` steps of a stage are finished."""
        now = self._now()
        known = self._stages.get(stage)
        began = known is None or done < known.done
        if began and known is not None:
            self._leave(stage)
        current = self._stages.setdefault(stage, _Stage(now)) if began else known
        assert current is not None
        current.done = done
        peak.look()
        moment = Moment(
            stage,
            done,
            total,
            began,
            now - current.begun,
            current.pace(done, now),
            current.peak.num_bytes,
        )
        self._show(moment, current, now)
        self._also(moment)
        if moment.ended:
            self._leave(stage)

    def _show(self, moment: Moment, stage: _Stage, now: float) -> None:
        if self._bars is not None:
            self._bars.start()
            if moment.began:
                self._tasks[moment.stage] = self._bars.add_task(
                    printable(moment.stage), total=moment.total, said=""
                )
            said = in_words(moment).removeprefix(f"{moment.stage}: ")
            self._bars.update(
                self._tasks[moment.stage], completed=moment.done, total=moment.total, said=said
            )
        elif moment.ended or (moment.done and now - stage.shown >= QUIET):
            stage.shown = now
            print(printable(in_words(moment)), file=self._stream or sys.stderr, flush=True)

    def _leave(self, stage: str) -> None:
        peak.end(self._stages.pop(stage).peak)

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are and give the terminal back."""
        for stage in list(self._stages):
            self._leave(stage)
        if self._bars is not None:
            self._bars.stop()


def _bars(stream: TextIO) -> Progress | None:
    """Moving bars, where the stream is a terminal that can move them."""
    console = Console(file=stream, force_terminal=stream.isatty(), highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=console,
    )


def in_words(moment: Moment) -> str:
    """A stage in one line: what it took at its end, else how far it is and what is left."""
    words = []
    if moment.total > 1:
        done = f"{moment.total} steps" if moment.ended else f"{moment.done} of {moment.total} steps"
        words.append(done)
    if moment.ended:
        words.append(_seconds(moment.seconds))
    if moment.pace is not None and moment.total > 1:
        words.append(f"{_seconds(moment.pace)} a step")
    if moment.left is not None and not moment.ended:
        words.append(f"{duration(moment.left)} left")
    if moment.peak:
        words.append(f"peak {shown_size(moment.peak)}")
    return f"{moment.stage}: {', '.join(words)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.{1 if seconds >= 1 else 2}f} s"


def duration(seconds: float) -> str:
    """As people say it: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
