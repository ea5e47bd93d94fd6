"""What was understood of each clip before any is encoded: its length, rate, size and bucket."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size

from ltx_infer.media.container import open_input, picture_track
from ltx_infer.media.images import image_info, is_still
from ltx_infer.media.video import LAST, LATE, VideoInfo, video_info
from ltx_infer.media.write import frame_rate
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_train.inputs.buckets import Bucket, best_bucket, check_buckets, check_references
from ltx_train.inputs.item import STILL_ENDINGS, Item, Outcome
from ltx_train.precompute.config import PrecomputeConfig

STILL_RATE = Fraction(1)  # as the public trainer has it (spec/training.md 1.5)
MOST = 240  # frames a second of a slow-motion camera
MAY_MOVE = (".gif", ".webp", ".avif", ".png")
DOTS = "..."
WIDTH, NAME_WIDTH = 110, 40  # columns of the sheet, and the most of them for names


class Seen(NamedTuple):
    """A clip or still that will be encoded, and what its header says."""

    item: Item
    num_frames: int  # at fps, from its start to its end
    fps: Fraction  # the rate that was asked for, else its own on average; of a still 1
    height: int  # as shown
    width: int
    duration: float  # in seconds; of a still 0
    has_sound: bool  # of its own, or in a file for it
    is_still: bool
    is_hdr: bool
    bucket: Bucket


def understand(
    items: Iterable[Item], config: PrecomputeConfig, scale: VideoScale
) -> tuple[list[Seen], list[Outcome]]:
    """The items that have a bucket, and the outcome of all others; no picture is decoded whole.

    Clips take a bucket of several frames where there is one, stills one of a single frame. Raises
    UserError for buckets that do not divide into latents.
    """
    check_buckets(config.resolution_buckets, scale)
    check_references(
        config.resolution_buckets,
        scale,
        smaller=config.reference_downscale_factor,
        fewer=config.reference_temporal_scale_factor,
    )
    seen, outcomes = [], []
    for item in items:
        try:
            found = _still(item, config) if _is_still(item) else _clip(item, config)
        except UserError as error:
            why = " ".join(str(error).removeprefix(f"{item.path}: ").split("\n"))
            outcomes.append(Outcome(item.name, "failed", why))
            continue
        if isinstance(found, Outcome):
            outcomes.append(found)
        else:
            seen.append(found)
    return seen, outcomes


def _is_still(item: Item) -> bool:
    ending = item.path.suffix.lower()
    return ending in STILL_ENDINGS or (ending == ".gif" and is_still(item.path))


def _still(item: Item, config: PrecomputeConfig) -> Seen | Outcome:
    info = image_info(item.path)
    if info.num_frames > 1 and item.path.suffix.lower() in MAY_MOVE:
        why = f"an animation of {info.num_frames} frames; as GIF or MP4 it would be a clip"
        return Outcome(item.name, "skipped", why)
    buckets = config.resolution_buckets
    bucket = best_bucket(buckets, height=info.height, width=info.width, num_frames=1)
    if bucket is None:
        flat = [bucket._replace(num_frames=1) for bucket in buckets]
        fitting = best_bucket(flat, height=info.height, width=info.width, num_frames=1)
        why = f"a still, and no bucket has 1 frame; {fitting} would fit"
        return Outcome(item.name, "skipped", why)
    return Seen(
        item=item,
        num_frames=1,
        fps=STILL_RATE,
        height=info.height,
        width=info.width,
        duration=0.0,
        has_sound=item.audio is not None,
        is_still=True,
        is_hdr=False,
        bucket=bucket,
    )


def _clip(item: Item, config: PrecomputeConfig) -> Seen | Outcome:
    info = video_info(item.path)
    fps = info.fps if config.fps is None else frame_rate(config.fps)
    if fps > MOST and config.fps is None:
        why = f"it says {_rate_text(fps)} frames a second, as some do that have no fixed rate"
        return Outcome(item.name, "skipped", f"{why}; --fps RATE reads it at another")
    buckets = [bucket for bucket in config.resolution_buckets if bucket.num_frames > 1]
    buckets = buckets or list(config.resolution_buckets)
    most = max(bucket.num_frames for bucket in buckets)
    num_frames = _num_frames(item.path, info, fps=fps, enough=most)
    bucket = best_bucket(buckets, height=info.height, width=info.width, num_frames=num_frames)
    if bucket is None:
        return _too_short(item, num_frames, fps, buckets)
    return Seen(
        item=item,
        num_frames=num_frames,
        fps=fps,
        height=info.height,
        width=info.width,
        duration=info.duration,
        has_sound=info.has_sound or item.audio is not None,
        is_still=False,
        is_hdr=info.is_hdr,
        bucket=bucket,
    )


def _too_short(item: Item, num_frames: int, fps: Fraction, buckets: Sequence[Bucket]) -> Outcome:
    shortest = min(buckets, key=lambda bucket: bucket.num_frames)
    frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
    why = (
        f"too short: {frames} at {_rate_text(fps)} a second, {shortest} needs {shortest.num_frames}"
    )
    return Outcome(item.name, "skipped", why)


def _num_frames(path: Path, info: VideoInfo, *, fps: Fraction, enough: int) -> int:
    """How many frames a clip has at a rate, as ``stream_frames`` gives them.

    A header may be wrong or say nothing, so packets are counted, until there are ``enough``.
    """
    begins: list[Fraction] = []
    end = Fraction(0)
    with open_input(path) as container:
        for packet in container.demux(picture_track(container, path)):
            if packet.pts is None or packet.is_discard or packet.time_base is None:
                continue
            unit = packet.time_base
            length = packet.duration * unit if packet.duration else 1 / info.fps
            begins.append(packet.pts * unit)
            end = max(end, begins[-1] + max(length, LAST / fps))
            # Packets come in the order of decoding: all that is shown before this was there.
            if packet.dts is not None and (packet.dts * unit - min(begins)) * fps > enough:
                return max(enough, _frames_until(Fraction(info.duration) * fps))
    return _frames_until((end - min(begins)) * fps) if begins else info.num_frames


def _frames_until(end: Fraction) -> int:
    """How many frames begin before ``end``, which is in frames."""
    return max(floor(end - LATE) + 1, 1)


def sheet_lines(seen: Sequence[Seen], outcomes: Sequence[Outcome]) -> list[str]:
    """The sheet of a run: what each bucket gets, then each clip and still, then what is left out.

    A bucket may be without any; ``outcomes`` are those of all that is not encoded.
    """
    lines = _table(_BUCKET_HEAD, [_bucket_cells(b, seen) for b in sorted({s.bucket for s in seen})])
    if seen:
        lines += ["", *_table(_CLIP_HEAD, [_clip_cells(one) for one in seen])]
    if outcomes:
        lines.append("")
    for outcome in sorted(outcomes):
        text = f"{outcome.status}: {outcome.name}: {outcome.reason}"
        lines += wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    num_clips = sum(not one.is_still for one in seen)
    total = f"{num_clips} clips, {len(seen) - num_clips} stills, {len(outcomes)} left out"
    return [total, "", *lines] if lines else [total]


_BUCKET_HEAD = ("bucket", "clips", "stills", "sound", "HDR", "seconds used")
_CLIP_HEAD = ("name", "frames", "rate", "seconds", "size", "sound", "bucket", "caption")


def _bucket_cells(bucket: Bucket, seen: Sequence[Seen]) -> tuple[str, ...]:
    those = [one for one in seen if one.bucket == bucket]
    num_stills = sum(one.is_still for one in those)
    seconds = sum(bucket.num_frames / one.fps for one in those if not one.is_still)
    return (
        str(bucket),
        str(len(those) - num_stills),
        str(num_stills),
        str(sum(one.has_sound for one in those)),
        str(sum(one.is_hdr for one in those)),
        f"{float(seconds):.1f}",
    )


def _clip_cells(one: Seen) -> tuple[str, ...]:
    moving = (str(one.num_frames), _rate_text(one.fps), f"{one.duration:.2f}")
    caption = "(to be written)" if one.item.caption is None else " ".join(one.item.caption.split())
    return (
        _shortened(one.item.name),
        *(("still", "", "") if one.is_still else moving),
        f"{one.width}x{one.height}{' HDR' if one.is_hdr else ''}",
        "yes" if one.has_sound else "no",
        str(one.bucket),
        caption,
    )


def _rate_text(fps: Fraction) -> str:
    return f"{float(fps):.3f}".rstrip("0").rstrip(".")


def _shortened(name: str) -> str:
    """A name in a few columns; its end says more than its beginning."""
    if cell_len(name) <= NAME_WIDTH:
        return name
    while cell_len(name) > NAME_WIDTH - len(DOTS):
        name = name[1:]
    return DOTS + name


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under each other, the last column cut at the sheet's edge; none without rows."""
    if not rows:
        return []
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append(chop_cells("  ".join(cells), WIDTH)[0].rstrip())
    return lines
