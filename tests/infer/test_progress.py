from io import StringIO

import mlx.core as mx
import pytest

from ltx_infer.progress import Moment, StageLines, duration


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(report: StageLines, clock: Clock, stage: str, times: list[float], total: int = 0) -> None:
    """A stage whose steps take these seconds."""
    report(stage, 0, total or len(times))
    for done, seconds in enumerate(times, 1):
        clock.time += seconds
        report(stage, done, total or len(times))


def without_peak(text: str) -> list[str]:
    return [line.split(", peak")[0] for line in text.splitlines()]


def test_in_a_pipe_a_stage_is_one_line_at_its_end(clock):
    said = StringIO()
    with StageLines(now=clock, stream=said) as report:
        run(report, clock, "text", [0.4])
        run(report, clock, "stage 1, 64x64", [9, 2, 2, 2])
    assert without_peak(said.getvalue()) == [
        "text: 0.40 s",
        "stage 1, 64x64: 4 steps, 15.0 s, 2.0 s a step",  # loading is in the first
    ]


def test_a_long_stage_says_now_and_then_where_it_is(clock):
    said = StringIO()
    with StageLines(now=clock, stream=said) as report:
        run(report, clock, "stage 1", [100, 40, 40, 40, 40])
    assert without_peak(said.getvalue()) == [
        "stage 1: 1 of 5 steps, 100.0 s a step, 7 min left",
        "stage 1: 3 of 5 steps, 40.0 s a step, 80 s left",
        "stage 1: 5 steps, 260.0 s, 40.0 s a step",
    ]


def test_what_is_left_is_known_from_the_first_step_to_the_last(clock):
    moments: list[Moment] = []
    with StageLines(moments.append, now=clock, stream=StringIO()) as report:
        run(report, clock, "stage 1", [5, 2, 2])
    assert [(m.done, m.began, m.ended) for m in moments] == [
        (0, True, False),
        (1, False, False),
        (2, False, False),
        (3, False, True),
    ]
    assert [m.left for m in moments] == [None, 10, 2, 0]
    assert [m.seconds for m in moments] == [0, 5, 7, 9]


def test_a_stage_begins_once_however_often_its_begin_is_told(clock):
    moments: list[Moment] = []
    with StageLines(moments.append, now=clock, stream=StringIO()) as report:
        report("stage 1", 0, 2)
        clock.time += 7  # a network is loaded
        run(report, clock, "stage 1", [1, 1])
        run(report, clock, "stage 1", [3, 3])  # another clip's
    assert [m.began for m in moments] == [True, False, False, False, True, False, False]
    assert [m.seconds for m in moments][3:] == [9, 0, 3, 6]


def test_steps_may_come_several_at_once(clock):
    moments: list[Moment] = []
    with StageLines(moments.append, now=clock, stream=StringIO()) as report:
        report("decode", 0, 9)
        for done in (1, 5, 9):
            clock.time += 2
            report("decode", done, 9)
    assert [m.pace for m in moments] == [None, 2, 0.5, 0.5]
    assert moments[-1].left == 0


def test_each_stage_has_its_own_peak():
    moments: list[Moment] = []
    before = mx.get_active_memory()
    with StageLines(moments.append, stream=StringIO()) as report:
        for size in (64 << 20, 16 << 20):
            report(f"{size}", 0, 1)
            mx.eval(mx.zeros((size,), mx.uint8))
            report(f"{size}", 1, 1)
    large, small = (m.peak - before for m in moments if m.ended)
    assert large == pytest.approx(64 << 20, rel=0.1)
    assert small == pytest.approx(16 << 20, rel=0.1)


def test_a_terminal_has_moving_bars(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    said = Terminal()
    with StageLines(now=clock, stream=said) as report:
        run(report, clock, "stage [1]", [5, 2, 2])
    assert "stage [1]" in said.getvalue()  # no markup
    assert "3/3" in said.getvalue()
    assert "9.0 s, 2.0 s a step" in said.getvalue()
    assert "\x1b" in said.getvalue()


@pytest.mark.parametrize(("name", "value"), [("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")])
def test_a_pipe_stays_plain_whatever_the_environment_says(clock, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    said = StringIO()
    with StageLines(now=clock, stream=said) as report:
        run(report, clock, "a\x1b[31m\tb", [1, 2])
    assert all(char.isprintable() or char == "\n" for char in said.getvalue())


def test_a_terminal_that_cannot_move_is_as_a_pipe(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    said = Terminal()
    with StageLines(now=clock, stream=said) as report:
        run(report, clock, "text", [1])
    assert "\x1b" not in said.getvalue()
    assert without_peak(said.getvalue()) == ["text: 1.0 s"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (89, "89 s"), (90, "2 min"), (12000, "3 h 20 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
