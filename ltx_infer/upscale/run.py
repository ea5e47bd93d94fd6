"""A picture or a clip, larger or with twice the frames: encoded, upscaled as latents, decoded.

A clip goes through in parts (``segments``), and its frames are read and written one by one.
"""

import json
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import version
from itertools import chain, pairwise
from math import ceil, floor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ltx_infer.hub.fetch import Say
from ltx_infer.media.carry import carried, carry_notes, first_sound
from ltx_infer.media.container import read_comment
from ltx_infer.media.images import is_still
from ltx_infer.media.stills import ENDINGS as STILLS
from ltx_infer.media.stills import (
    WITH_ALPHA,
    Still,
    check_still,
    read_still,
    resized,
    write_still,
)
from ltx_infer.media.video import every_frame, video_info
from ltx_infer.media.write import Timing, check_output, write_clip
from ltx_infer.progress import Report
from ltx_infer.settings import TOOL
from ltx_infer.upscale.config import UpscaleConfig, faults
from ltx_infer.upscale.networks import Opened, load_networks, open_files
from ltx_infer.upscale.parts import Work, worked
from ltx_infer.upscale.segments import joined
from ltx_models import blas
from ltx_models.config import summarise
from ltx_models.device import prepare
from ltx_models.errors import UserError

STAGE = "upscale"


def _quietly(*_: object) -> None:
    pass


class Upscaled(NamedTuple):
    """What was made: the file, which it is, its number of frames, and their size."""

    path: Path
    kind: Literal["clip", "picture"]
    num_frames: int
    height: int
    width: int


def upscale(config: UpscaleConfig, *, report: Report = _quietly, say: Say = _quietly) -> Upscaled:
    """Make the picture or the clip that ``config`` asks for and write it to its ``output``.

    A picture becomes a picture, a clip a clip with its sound and its times. ``say`` is told in one
    line each what was decided. Raises UserError for what cannot be read, had or written; a failure
    leaves no file.
    """
    still = is_still(config.input)
    if problems := list(faults(config, is_still=still)):
        raise UserError(summarise(problems))
    (check_still if still else _check_clip)(config.output)
    if config.output.exists() and config.output.samefile(config.input):
        raise UserError(f"--output {config.output}: is the input")
    blas.check()
    prepare()
    return (_still if still else _clip)(config, report=report, say=say)


def _check_clip(output: Path) -> None:
    check_output(output)
    if output.suffix.lower() in STILLS:
        raise UserError(f"{output}: is the name of a picture, and the input is a video")


def _still(config: UpscaleConfig, *, report: Report, say: Say) -> Upscaled:
    given = read_still(config.input, on_white=False)
    ending = config.output.suffix.lower()
    if given.alpha is not None and ending not in WITH_ALPHA:
        say(f"{config.input}: its transparent parts become white, as a {ending} has none")
        given = read_still(config.input, on_white=True)
    opened = open_files(config, say=say)
    height, width = (floor(side * opened.scale + 0.5) for side in given.pixels.shape[:2])
    work = Work(config, opened, load_networks(config, opened, report=report), 1.0, report)
    report(STAGE, 0, 1)
    pixels = next(joined(worked(work, iter([given.pixels]))))
    alpha = given.alpha
    if alpha is not None:
        alpha = resized(alpha, height=height, width=width)
    comment = _comment(given.comment, config, opened)
    write_still(config.output, Still(pixels[:height, :width], alpha, comment))
    report(STAGE, 1, 1)
    return Upscaled(config.output, "picture", 1, height, width)


def _clip(config: UpscaleConfig, *, report: Report, say: Say) -> Upscaled:
    info = video_info(config.input)
    comment = read_comment(config.input)
    ending = config.output.suffix.lower()
    for note in carry_notes(config.input, ending=ending):
        say(note)
    if info.is_hdr:
        say(f"{config.input}: HDR, read without tone mapping, so it looks pale")
    opened = open_files(config, say=say)
    # H.264 has even sizes; where there is no pixel for the last row or column, it is repeated.
    height, width = (2 * ceil(side * opened.scale / 2) for side in (info.height, info.width))
    if (height, width) != (info.height * opened.scale, info.width * opened.scale):
        say(f"{config.input}: {info.width}x{info.height} becomes {width}x{height}")
    times = 2 if config.temporal else 1
    fps, unit, total = info.fps * times, info.unit / times, info.num_frames * times
    networks = load_networks(config, opened, report=report)
    frames = _Source(config.input)
    starts = _doubled(frames.starts()) if config.temporal else frames.starts()
    parts = worked(Work(config, opened, networks, float(fps), report), frames.pixels())
    made = (frame[None, :height, :width] for frame in joined(parts))
    with carried(config.input, zero=frames.zero, ending=ending) as carry:
        num_frames = write_clip(
            config.output,
            _reported(made, total, report),
            fps=fps,
            timing=Timing(_ticks(starts, unit), unit),
            carry=carry,
            comment=_comment(comment, config, opened),
        )
    report(STAGE, num_frames, num_frames)
    return Upscaled(config.output, "clip", num_frames, height, width)


class _Source:
    """The frames of a video, and when each that was asked for is shown, from 0 on in seconds.

    ``zero`` is the time of the file at which its first picture or sound begins.
    """

    def __init__(self, path: Path):
        self._shown = every_frame(path)
        self._first = next(self._shown)
        sound = first_sound(path)
        self.zero = self._first.start if sound is None else min(sound, self._first.start)
        self._starts: deque[Fraction] = deque()

    def pixels(self) -> Iterator[np.ndarray]:
        """The frames (H, W, 3), read as they are asked for."""
        yield self._noted(self._first.start, self._first.pixels)
        for shown in self._shown:
            yield self._noted(shown.start, shown.pixels)

    def _noted(self, start: Fraction, pixels: np.ndarray) -> np.ndarray:
        self._starts.append(start - self.zero)
        return pixels

    def starts(self) -> Iterator[Fraction]:
        """The times of the frames that were read."""
        while self._starts:
            yield self._starts.popleft()


def _doubled(starts: Iterator[Fraction]) -> Iterator[Fraction]:
    """Times with others in the middle between each two."""
    last = Fraction(0)
    for start, last in pairwise(starts):
        yield start
        yield (start + last) / 2
    yield last


def _ticks(starts: Iterator[Fraction], unit: Fraction) -> Iterator[int]:
    """Times as numbers of a unit, each later than the one before."""
    before = -1
    for start in starts:
        before = max(round(start / unit), before + 1)
        yield before


def _reported(frames: Iterator[np.ndarray], total: int, report: Report) -> Iterator[np.ndarray]:
    """Pass on frames and report each; ``total`` is what a header says, and may be wrong.

    The first one takes as long as the first part's encoding does, and has a stage of its own.
    """
    report("first part", 0, 1)
    first = next(frames)
    report("first part", 1, 1)
    report(STAGE, 0, total)
    for number, frame in enumerate(chain([first], frames), 1):
        yield frame
        report(STAGE, min(number, total - 1), total)


def _comment(before: str | None, config: UpscaleConfig, opened: Opened) -> str:
    """The comment that a source has, and what was done to it where it holds settings of ours."""
    how: dict[str, object] = {"scale": opened.scale, "temporal": config.temporal}
    how["model"] = opened.models.checkpoint.path.name
    how["upscalers"] = [path.name for path in (opened.spatial, opened.temporal) if path]
    if config.refine:
        how |= {"prompt": config.prompt, "seed": config.seed}
    try:
        said = json.loads(before) if before else {TOOL: version(TOOL)}
    except (ValueError, RecursionError):
        said = None
    steps = said.get("upscaled", []) if isinstance(said, dict) and TOOL in said else None
    if said is None or not isinstance(steps, list):
        return before or ""
    return json.dumps({**said, "upscaled": [*steps, how]}, ensure_ascii=False)
