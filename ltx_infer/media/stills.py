"""Pictures in and out with what is transparent in them; Pillow is imported when one is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ltx_infer.media.images import opened, to_rgb
from ltx_infer.media.place import check_place, replacing
from ltx_models.errors import UserError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

WITH_ALPHA = (".png", ".webp")
ENDINGS = (*WITH_ALPHA, ".jpg", ".jpeg")
QUALITY = 95  # of JPEG and WebP
WEBP_MOST, JPEG_MOST = 16_383, 65_500  # pixels along a side
OPAQUE = 255


class Still(NamedTuple):
    """A picture (H, W, 3) in bytes; how opaque it is (H, W), None for all of it; its comment."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    comment: str | None = None


def read_still(path: Path, *, on_white: bool) -> Still:
    """A picture as ``read_image`` gives it, or with what is transparent apart unless ``on_white``.

    Raises UserError for what cannot be read.
    """
    from PIL import ImageOps  # noqa: PLC0415

    with opened(path) as image:
        comment = image.info.get("comment")
        if isinstance(comment, bytes):
            comment = comment.decode("utf-8", "replace")
        upright = ImageOps.exif_transpose(image)
        if on_white or not upright.has_transparency_data:
            return Still(to_rgb(upright, path), None, comment)
        layers = upright.convert("RGBA")
        alpha = np.array(layers.getchannel("A"))
        colours = layers.convert("L" if upright.mode in ("LA", "La") else "RGB")
        if "icc_profile" in image.info:
            colours.info["icc_profile"] = image.info["icc_profile"]
        opaque = bool((alpha == OPAQUE).all())
        return Still(to_rgb(colours, path), None if opaque else alpha, comment)


def check_still(path: Path) -> None:
    """Raise UserError unless a picture can be written there."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: the name of a picture ends in {', '.join(ENDINGS)}")
    check_place(path)


def write_still(path: Path, still: Still) -> None:
    """Write a picture; a failure leaves none. A JPEG has no transparency, a WebP no comment.

    Raises UserError for a place that takes no file, and for a picture too large for its form.
    """
    check_still(path)
    ending = path.suffix.lower()
    image = _image(still.pixels)
    if still.alpha is not None and ending in WITH_ALPHA:
        image.putalpha(_image(still.alpha))
    most = {".png": 2**31 - 1, ".webp": WEBP_MOST}.get(ending, JPEG_MOST)
    if max(image.size) > most:
        raise UserError(f"{path}: a {ending} has {most} pixels a side at most; take a .png")
    with replacing(path) as part:
        try:
            image.save(part, **_options(ending, still.comment))
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {reason(error)}") from error


def resized(alpha: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """One channel (H, W) in bytes at another size, by Lanczos."""
    from PIL import Image  # noqa: PLC0415

    return np.array(_image(alpha).resize((width, height), Image.Resampling.LANCZOS))


def _image(pixels: np.ndarray) -> "Image":
    from PIL import Image  # noqa: PLC0415

    return Image.fromarray(np.ascontiguousarray(pixels))


def _options(ending: str, comment: str | None) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415

    if ending == ".webp":
        return {"format": "WEBP", "quality": QUALITY}
    if ending != ".png":
        said = {} if comment is None else {"comment": comment.encode()}
        return {"format": "JPEG", "quality": QUALITY, "subsampling": 0, **said}
    words = PngInfo()
    if comment is not None:
        words.add_itxt("comment", comment)
    return {"format": "PNG", "pnginfo": words}
