"""Sizes that clips are brought to (spec/training.md 1.5)."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ltx_models.errors import UserError

if TYPE_CHECKING:
    from ltx_models.transformer.patchify import VideoScale


class Bucket(NamedTuple):
    """Pixel columns, pixel rows and frames."""

    width: int
    height: int
    num_frames: int

    def __str__(self) -> str:
        """As it is written on the command line."""
        return "x".join(map(str, self))


def parse_buckets(text: str) -> tuple[Bucket, ...]:
    """Buckets of ``"WxHxF;WxHxF"``; raises UserError for what is none."""
    buckets = []
    for part in text.split(";"):
        match = re.fullmatch(r"\s*(\d+)x(\d+)x(\d+)\s*", part)
        if match is None:
            raise UserError(
                f"--resolution-buckets {text!r}: {part!r} is no WIDTHxHEIGHTxFRAMES, "
                'as "832x480x73;768x768x65" has'
            )
        buckets.append(Bucket(*map(int, match.groups())))
    return tuple(dict.fromkeys(buckets))


def check_buckets(buckets: Sequence[Bucket], scale: "VideoScale") -> None:
    """Raise UserError for a size that does not divide into latents, with the nearest that does."""
    for bucket in buckets:
        fitting = Bucket(
            max(round(bucket.width / scale.space), 1) * scale.space,
            max(round(bucket.height / scale.space), 1) * scale.space,
            max(round((bucket.num_frames - 1) / scale.time), 0) * scale.time + 1,
        )
        if bucket != fitting:
            raise UserError(
                f"--resolution-buckets {bucket}: width and height are multiples of {scale.space}, "
                f"frames a multiple of {scale.time} plus 1; {fitting} would fit"
            )


def check_references(
    buckets: Sequence[Bucket], scale: "VideoScale", *, smaller: int, fewer: int
) -> None:
    """Raise UserError for a bucket whose references would not divide into latents.

    They have a ``smaller``-th of its rows and columns, and of its frames the first and of the rest
    a ``fewer``-th.
    """
    for bucket in buckets:
        sides = scale.space * smaller
        if bucket.width % sides or bucket.height % sides:
            raise UserError(
                f"--reference-downscale-factor {smaller}: width and height of a bucket are then "
                f"multiples of {sides}, not {bucket}"
            )
        if (bucket.num_frames - 1) % (scale.time * fewer):
            raise UserError(
                f"--reference-temporal-scale-factor {fewer}: the frames of a bucket are then a "
                f"multiple of {scale.time * fewer} plus 1, not {bucket}"
            )


def best_bucket(
    buckets: Sequence[Bucket], *, height: int, width: int, num_frames: int
) -> Bucket | None:
    """The bucket for a clip: of the nearest shape, then with more frames, then of more pixels.

    None if the clip is shorter than all.
    """

    def cost(bucket: Bucket) -> tuple[float, int, int]:
        stretch = abs(math.log(bucket.width / bucket.height * height / width))
        return stretch, -bucket.num_frames, -bucket.width * bucket.height

    fitting = [bucket for bucket in buckets if bucket.num_frames <= num_frames]
    return min(fitting, key=cost, default=None)
