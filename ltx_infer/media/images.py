"""Pictures as people have them, to RGB in bytes; Pillow and PyAV are imported when one is read."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltx_infer.media.resize import to_pixels
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**29  # a photograph may have 200 million; more than this is no photograph
MAX_CRF = 51
MAX_SIDE = 8192  # a larger picture would cost libx264 gigabytes
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
ORIENTATION, ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF


class ImageInfo(NamedTuple):
    """What a picture's header says."""

    height: int  # as shown: turned as its EXIF data says
    width: int
    num_frames: int  # of an animation, or pages


def read_image(path: Path) -> np.ndarray:
    """A picture as people see it: (H, W, 3) RGB in bytes, turned as its EXIF data says.

    What is transparent is shown on white, as a viewer or an export to JPEG does. 16 bits, grey,
    palette and CMYK become 8-bit sRGB by the picture's own colour profile; of an animation the
    first frame is taken. Raises UserError for what cannot be read.
    """
    from PIL import ImageOps  # noqa: PLC0415

    with opened(path) as image:
        return to_rgb(ImageOps.exif_transpose(image), path)


def image_info(path: Path) -> ImageInfo:
    """What a picture is, from its header. Raises UserError if it is none."""
    with opened(path) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION) in ON_ITS_SIDE:
            width, height = height, width
        return ImageInfo(height, width, getattr(image, "n_frames", 1))


def is_still(path: Path) -> bool:
    """Whether a file holds a single picture. Raises UserError if there is no file."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415

    try:
        with opened(path, unknown=UnidentifiedImageError) as image:
            return getattr(image, "n_frames", 1) == 1
    except UnidentifiedImageError:
        return False


def default_crf(version: tuple[int, ...]) -> int:
    """How hard the stills were compressed that a checkpoint of a version learnt from (part 9)."""
    return 33 if version < (2, 4) else 18


def compress(frame: np.ndarray, *, crf: int) -> np.ndarray:
    """A frame (H, W, 3) in bytes after H.264 at a constant rate factor; 0 is off (part 9).

    The networks know given pictures only as frames of compressed video. An odd last row or column
    is cut off. Raises UserError for a factor that libx264 lacks.
    """
    import av  # noqa: PLC0415

    if not 0 <= crf <= MAX_CRF:
        raise UserError(f"the CRF of an image is 0 (off) to {MAX_CRF}, not {crf}")
    while max(frame.shape) > MAX_SIDE:
        frame = frame[::2, ::2]
    height, width = (side // 2 * 2 for side in frame.shape[:2])
    if not crf or not height or not width:
        return frame
    file = BytesIO()
    with av.open(file, "w", "mp4") as container:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = container.add_stream("libx264", 1, options=options, width=width, height=height)
        stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(frame[:height, :width])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def image_pixels(path: Path, *, height: int, width: int, crf: int) -> np.ndarray:
    """A picture as the VAE takes it: (1, 3, 1, height, width), float32 in [-1, 1] (part 9).

    Raises UserError for a picture that cannot be read and a factor that libx264 lacks.
    """
    return to_pixels([compress(read_image(path), crf=crf)], height=height, width=width)


@contextmanager
def opened(path: Path, *, unknown: type[Exception] = UserError) -> Iterator["Image"]:
    """A picture, opened; ``unknown`` is raised for what is none, UserError for a damaged one."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow warns past it, and refuses twice as much
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and of odd EXIF data
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise unknown(_not_a_picture(path)) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: has more than {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{path}: the picture is damaged: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _not_a_picture(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in HEIC_BRANDS:
        return f"{path}: HEIC pictures cannot be read; export it as JPEG or PNG"
    return f"{path}: not a picture that can be read, as PNG, JPEG, WebP, GIF, TIFF or AVIF is"


def to_rgb(image: "Image", path: Path) -> np.ndarray:
    """An opened picture as (H, W, 3) in bytes."""
    from PIL import Image  # noqa: PLC0415

    if image.mode.startswith("I;16"):
        grey = np.rint(np.asarray(image) / 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UserError(f"{path}: has 32 bits a pixel; save it with 8 or 16")
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    return np.array(_srgb(image, profile))


def _srgb(image: "Image", profile: bytes | None) -> "Image":
    """A picture in the colours of screens."""
    from PIL import ImageCms  # noqa: PLC0415

    if profile is None:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        screen = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, screen, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a broken profile: as viewers do, go on without it
        return image.convert("RGB")
    assert converted is not None  # None is for conversion in place
    return converted
