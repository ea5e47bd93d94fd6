"""A clip as a GIF: 256 colours, chosen for all of its frames. PyAV is imported when one is written.

The colours are known after the last frame, so the frames wait on the disk, not in memory.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ltx_infer.media.place import replacing, told

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import FilterContext, Graph

UNIT = Fraction(1, 100)  # a GIF counts in hundredths of a second
SHORTEST = 2  # of them; browsers show a frame of fewer for ten
PALETTE = "stats_mode=full:reserve_transparent=0"
DITHER = "dither=bayer:bayer_scale=3"  # keeps what does not move as it is, so files are small
HEAD = 13  # bytes of signature and size, before a palette
COMMENT, BLOCK = b"\x21\xfe", 255  # what a comment begins with, and bytes in one of its parts


class Picture(NamedTuple):
    """A frame (H, W, 3) in bytes and the hundredth of a second at which it is shown."""

    pixels: np.ndarray
    start: int


def write_gif(
    path: Path, pictures: Iterable[tuple[np.ndarray, Fraction]], *, comment: str | None = None
) -> int:
    """Write frames (H, W, 3) in bytes with their times in seconds; returns how many were written.

    Frames less than a fiftieth of a second after the one before are left out. A failure leaves no
    file. Raises UserError for what cannot be written; what ``pictures`` raises passes through.
    """
    with replacing(path) as part, TemporaryFile(dir=path.parent) as kept:
        starts, shape, graph = [], (0, 0, 0), None
        for picture in _apart(pictures):
            if graph is None:
                shape, graph = picture.pixels.shape, _palette_graph(picture.pixels.shape)
            with told(path):
                kept.write(picture.pixels.tobytes())
                graph.push(_frame(picture))
                with suppress(BlockingIOError):  # there is no palette yet, but the frame is let go
                    graph.vpull()
            starts.append(picture.start)
        assert graph is not None, "a clip has a frame"
        size = int(np.prod(shape))
        again = (
            Picture(np.frombuffer(kept.read(size), np.uint8).reshape(shape), start)
            for start in starts
        )
        coloured = part.with_name(f"{part.name}.coloured")
        try:
            with told(path):
                kept.seek(0)
                graph.push(None)
                _encode(coloured, again, graph.vpull(), shape, rate=_rate(starts))
                _with_comment(coloured, part, comment)
        finally:
            coloured.unlink(missing_ok=True)
    return len(starts)


def _apart(pictures: Iterable[tuple[np.ndarray, Fraction]]) -> Iterator[Picture]:
    last = None
    for pixels, time in pictures:
        start = round(time / UNIT)
        if last is None or start - last >= SHORTEST:
            last = start
            yield Picture(np.ascontiguousarray(pixels), start)


def _rate(starts: list[int]) -> Fraction:
    """Frames a second by the first two, which the last frame is shown by."""
    first = next((after - before for before, after in pairwise(starts)), 10)
    return 1 / (first * UNIT)


def _frame(picture: Picture) -> "VideoFrame":
    from av import VideoFrame  # noqa: PLC0415

    frame = VideoFrame.from_ndarray(picture.pixels, format="rgb24").reformat(format="rgba")
    frame.pts, frame.time_base = picture.start, UNIT
    return frame


def _palette_graph(shape: tuple[int, ...]) -> "Graph":
    """What takes frames and gives one picture of 16x16 colours after the last."""
    from av.filter import Graph  # noqa: PLC0415

    graph = Graph()
    source = _source(graph, "rgba", width=shape[1], height=shape[0])
    graph.link_nodes(source, graph.add("palettegen", PALETTE), graph.add("buffersink")).configure()
    return graph


def _source(graph: "Graph", pixels: str, *, width: int, height: int) -> "FilterContext":
    """Where frames of a size enter a graph."""
    from av import VideoFormat  # noqa: PLC0415

    form = VideoFormat(pixels, width, height)
    return graph.add_buffer(width=width, height=height, format=form, time_base=UNIT)


def _encode(
    path: Path,
    pictures: Iterable[Picture],
    palette: "VideoFrame",
    shape: tuple[int, ...],
    *,
    rate: Fraction,
) -> None:
    import av  # noqa: PLC0415
    from av.filter import Graph  # noqa: PLC0415

    graph = Graph()
    size: dict[str, Any] = {"width": shape[1], "height": shape[0]}
    source = _source(graph, "rgba", **size)
    colours = _source(graph, palette.format.name, width=palette.width, height=palette.height)
    user, sink = graph.add("paletteuse", DITHER), graph.add("buffersink")
    source.link_to(user, 0, 0)
    colours.link_to(user, 0, 1)
    user.link_to(sink)
    graph.configure()
    palette.pts, palette.time_base = 0, UNIT
    colours.push(palette)
    colours.push(None)
    with av.open(str(path), "w", "gif", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("gif", rate, **size)
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = UNIT
        for picture in pictures:
            source.push(_frame(picture))
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode())


def _with_comment(path: Path, to: Path, comment: str | None) -> None:
    """A copy of a GIF with a comment before its first picture, which FFmpeg has no way to write."""
    with path.open("rb") as given, to.open("wb") as found:
        head = given.read(HEAD)
        flags = head[10]
        palette = given.read(3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
        found.write(head + palette)
        if comment is not None:
            said = comment.encode()
            parts = [said[at : at + BLOCK] for at in range(0, len(said), BLOCK)]
            found.write(COMMENT + b"".join(bytes([len(p)]) + p for p in parts) + b"\0")
        shutil.copyfileobj(given, found)
