"""What a command tells a program that runs it: events, a line of JSON each, on stdout.

The models here are the format; docs/events.schema.json is made of them, by ``schema_text``.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TextIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ltx_infer.progress import Moment, StageLines
from ltx_models import peak
from ltx_models.errors import printable_lines

if TYPE_CHECKING:
    from ltx_infer.decode import Written
    from ltx_infer.plan.plan import Plan

Seconds = Annotated[float, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0, description="held by MLX at once")]
Steps = Annotated[int, Field(ge=0)]


class Event(BaseModel):
    """What every event has."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )

    time: float = Field(default_factory=time.time, description="seconds since 1970")


class Started(Event):
    """What is asked for was understood; the first event, unless that is an error."""

    event: Literal["started"] = "started"
    command: str
    version: str
    configs: list[dict[str, Any]] = Field(description="the values of all flags, one a clip")


class Note(Event):
    """What was decided, or is worth knowing; a line for people."""

    event: Literal["note"] = "note"
    text: str


class PlannedPart(BaseModel):
    """A part of the work, with the memory that it is expected to take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weight_bytes: Bytes
    work_bytes: Bytes


class Planned(Event):
    """The memory that the run is expected to take; one part is let go of before the next begins."""

    event: Literal["plan"] = "plan"
    parts: list[PlannedPart]
    peak_bytes: Bytes
    limit_bytes: Annotated[int, Field(ge=0, description="that a run may take here")]


class StageBegin(Event):
    """A part of the work begins."""

    event: Literal["stage_begin"] = "stage_begin"
    stage: str
    steps: Steps


class Step(Event):
    """Steps of a stage are done; the last one is told too."""

    event: Literal["step"] = "step"
    stage: str
    step: Steps = Field(description="how many are done")
    steps: Steps
    seconds: Seconds = Field(description="since the stage began")
    seconds_left: Seconds = Field(description="about, of this stage")
    peak_bytes: Bytes


class StageEnd(Event):
    """A part of the work is done."""

    event: Literal["stage_end"] = "stage_end"
    stage: str
    steps: Steps
    seconds: Seconds
    peak_bytes: Bytes


class WrittenFile(Event):
    """A file is there, whole."""

    event: Literal["written"] = "written"
    path: str
    kind: Literal["clip", "sound", "preview", "frames", "latents", "picture"]
    num_frames: int | None = Field(default=None, ge=0)
    sampling_rate: int | None = Field(
        default=None, gt=0, description="in Hz, of a sound that was made"
    )


class Missing(Event):
    """One of several clips could not be made; the others were, and an error is the last event."""

    event: Literal["missing"] = "missing"
    path: str
    message: str


class Finished(Event):
    """All that was asked for is there; the last event."""

    event: Literal["finished"] = "finished"
    paths: list[str]
    seconds: Seconds
    peak_bytes: Bytes


class Failed(Event):
    """The command ends without what was asked for; the last event."""

    event: Literal["error"] = "error"
    message: str
    exit_code: int


AnyEvent = Annotated[
    Started
    | Note
    | Planned
    | StageBegin
    | Step
    | StageEnd
    | WrittenFile
    | Missing
    | Finished
    | Failed,
    Field(discriminator="event"),
]
Send = Callable[[Event], None]
EVENTS: TypeAdapter[Any] = TypeAdapter(AnyEvent)


def schema_text() -> str:
    """The JSON Schema of an event."""
    schema = EVENTS.json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An event"}
    return json.dumps({**head, **schema}, indent=2) + "\n"


def write_event(event: Event, stream: TextIO) -> None:
    """One line, in ASCII, as a stream may have any encoding."""
    stream.write(json.dumps(event.model_dump(mode="json")) + "\n")
    stream.flush()


def tell_end(message: str, exit_code: int) -> None:
    """The last event of a command that fails, on stdout."""
    write_event(Failed(message=message, exit_code=exit_code), sys.stdout)


def _send_nothing(_event: Event) -> None:
    pass


class Reporting(NamedTuple):
    """Where a command tells how it goes: lines for people, and events for programs."""

    report: StageLines
    send: Send
    events: bool
    peak: peak.Peak
    begun: float

    def say(self, line: str) -> None:
        """A line on stderr, without control characters, and a note."""
        sys.stderr.write(f"{printable_lines(line)}\n")
        sys.stderr.flush()
        self.send(Note(text=line))

    def started(self, command: str, configs: Sequence[BaseModel]) -> None:
        """Tell what the command was understood to be."""
        values = [config.model_dump(mode="json") for config in configs]
        self.send(Started(command=command, version=version("ltx-mlx"), configs=values))

    def planned(self, plan: "Plan", limit: int) -> None:
        """Tell what memory is expected to be taken, of ``limit`` bytes."""
        parts = [
            PlannedPart(name=part.name, weight_bytes=part.weights, work_bytes=part.work)
            for part in plan.parts
        ]
        self.send(Planned(parts=parts, peak_bytes=plan.total, limit_bytes=limit))

    def written(self, made: "Written") -> None:
        """Tell of every file of a clip."""
        clip = WrittenFile(
            path=str(made.path),
            kind=made.kind,
            num_frames=made.num_frames if made.kind == "clip" else None,
            sampling_rate=made.sampling_rate,
        )
        self.send(clip)
        for path, kind in made.others:
            self.send(WrittenFile(path=str(path), kind=kind))

    def missing(self, path: Path, message: str) -> None:
        """Tell of a clip that there is not."""
        self.send(Missing(path=str(path), message=message))

    def failed(self, message: str, exit_code: int) -> None:
        """Tell how the command ends, where nothing is raised."""
        self.send(Failed(message=message, exit_code=exit_code))

    def finished(self, paths: Sequence[Path]) -> None:
        """Tell that all is done."""
        peak.look()
        seconds = time.perf_counter() - self.begun
        names = [str(path) for path in paths]
        self.send(Finished(paths=names, seconds=seconds, peak_bytes=self.peak.num_bytes))


@contextmanager
def reporting(*, events: bool) -> Iterator[Reporting]:
    """Lines on stderr; with ``events`` these on stdout too, and nothing else there."""
    begun = time.perf_counter()
    if not events:
        with StageLines() as report, peak.measured() as most:
            yield Reporting(report, _send_nothing, events, most, begun)
        return
    send = partial(write_event, stream=sys.stdout)
    with (
        redirect_stdout(sys.stderr),
        StageLines(partial(_send_moment, send)) as report,
        peak.measured() as most,
    ):
        yield Reporting(report, send, events, most, begun)


def _send_moment(send: Send, moment: Moment) -> None:
    if moment.began:
        send(StageBegin(stage=moment.stage, steps=moment.total))
    if moment.left is not None:
        send(
            Step(
                stage=moment.stage,
                step=moment.done,
                steps=moment.total,
                seconds=moment.seconds,
                seconds_left=moment.left,
                peak_bytes=moment.peak,
            )
        )
    if moment.ended:
        send(
            StageEnd(
                stage=moment.stage,
                steps=moment.total,
                seconds=moment.seconds,
                peak_bytes=moment.peak,
            )
        )
