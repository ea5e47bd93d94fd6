"""What a run's model made, in the page itself as far as there is room for it."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from ltx_train.output.layout import MadeSample
from ltx_train.report.media import Still, fitted, listen, picture, player, still
from ltx_train.report.page import Html, join, note, tag
from ltx_train.report.samples import Sample

ROOM = 24_000_000  # bytes of media in a page
BOX, SMALL = 480, 240  # the longer side of a picture of a clip, in pixels


class Shown(NamedTuple):
    """Samples for the grid, and the steps of those for whose clips there was no room."""

    samples: list[Sample]
    linked: list[int]


def shown_samples(made: Sequence[MadeSample], prompts: Sequence[str], *, folder: Path) -> Shown:
    """Files as players; beyond ROOM as pictures that lead to them.

    There is room for the newest step first, then for the first, then for those before the newest.
    ``folder`` is the page's, from which the others are found.
    """
    inside, names = _inside(made), dict(enumerate(prompts, 1))
    samples, linked = [], []
    for one in made:
        prompt = names.get(one.number, f"sample {one.number}")
        if one in inside:
            shown = _embedded(one.path)
        else:
            shown = _linked(one.path, folder)
            linked.append(one.step)
        samples.append(Sample(one.step, prompt, shown))
    return Shown(samples, sorted(set(linked)))


def _inside(made: Sequence[MadeSample]) -> set[MadeSample]:
    """The files for which there is room, whole steps at a time."""
    steps = sorted({one.step for one in made}, reverse=True)
    order = [*steps[:1], *steps[-1:], *steps[1:-1]]
    found: set[MadeSample] = set()
    room = ROOM
    for step in dict.fromkeys(order):
        of_step = [one for one in made if one.step == step]
        room -= sum(one.path.stat().st_size for one in of_step)
        if room < 0:
            break
        found |= set(of_step)
    return found


def _embedded(path: Path) -> Html:
    if path.suffix == ".wav":
        return listen(path.read_bytes())
    first = _first(path, path.stat().st_mtime_ns, BOX)
    if first is None:
        return note(f"{path.name} cannot be read")
    if path.suffix == ".png":
        return picture(first, alt=path.name)
    return player(path.read_bytes(), first=first)


def _linked(path: Path, folder: Path) -> Html:
    there = path.relative_to(folder).as_posix()
    is_sound = path.suffix == ".wav"
    first = None if is_sound else _first(path, path.stat().st_mtime_ns, SMALL)
    small = None if first is None else picture(first, alt=path.name)
    return tag("a", join(small, note(path.name)), href=there)


# A page is written again and again, and its clips stay the same. Those themselves are not kept:
# there is room for some in a page, but all of a long run would fill the memory.
@lru_cache(maxsize=1024)
def _first(path: Path, _changed: int, side: int) -> Still | None:
    frame = _first_frame(path)
    return None if frame is None else still(fitted(frame, width=side, height=side))


def _first_frame(path: Path) -> np.ndarray | None:
    """A still, or a clip's first frame; None for a damaged file, which is to stop no training."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        with av.open(str(path)) as file:
            return next(file.decode(video=0)).to_ndarray(format="rgb24")
    except (FFmpegError, OSError, StopIteration):
        return None
