"""The frames of a clip that a caption model is shown."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

from PIL import Image

from ltx_infer.media.images import is_still, read_image
from ltx_infer.media.video import LATE, stream_frames, video_info

NUM_FRAMES = 6
MAX_SIDE = 512  # pixels; models that take pictures of any size spend tokens by their area


def sample_frames(
    path: Path, *, max_frames: int | None = None, fps: float | None = None
) -> list[Image.Image]:
    """At most six frames, upright, from the middles of equal parts of a clip; or the one still.

    ``max_frames`` is how many of the clip's first frames count, at ``fps`` or else its own rate:
    what is not trained on is not to be spoken of. Raises UserError for what cannot be read.
    """
    if is_still(path):
        return [_fitted(Image.fromarray(read_image(path)))]
    info = video_info(path)
    seconds, count = info.num_frames / info.fps, min(info.num_frames, NUM_FRAMES)
    if max_frames is not None:
        seconds, count = (
            min(seconds, max_frames / Fraction(fps or info.fps)),
            min(count, max_frames),
        )
    part = seconds / count
    # A frame counts for a moment that it begins after, by LATE of a part at most.
    frames = stream_frames(path, fps=1 / part, start=float(part * (Fraction(1, 2) - LATE)))
    return [_fitted(Image.fromarray(frame)) for frame in islice(frames, count)]


def _fitted(picture: Image.Image) -> Image.Image:
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)  # never makes it larger
    return picture
