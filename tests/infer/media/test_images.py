import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ltx_infer.media.images import (
    compress,
    default_crf,
    image_pixels,
    is_still,
    read_image,
)
from ltx_models.errors import UserError
from tests.infer.media.odd_media import corners, counting, quarters, write_sound, write_video

UPRIGHT = ("red", "green", "blue", "grey")
ORIENTATION = 0x0112

# Kinds of pictures


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.tiff", "a.avif", "A.PNG"]
)
def test_formats(tmp_path, name):
    Image.fromarray(quarters()).save(tmp_path / name)
    picture = read_image(tmp_path / name)
    assert picture.shape == (64, 96, 3)
    assert picture.dtype == np.uint8
    assert corners(picture) == UPRIGHT


def test_the_ending_does_not_matter(tmp_path):
    Image.fromarray(quarters()).save(tmp_path / "photo.jpg", "PNG")
    assert corners(read_image(tmp_path / "photo.jpg")) == UPRIGHT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_photograph_upright(tmp_path, orientation):
    upright = quarters()
    turned = {  # how a camera stores what is upright
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, quality=95)
    picture = read_image(path)
    assert picture.shape == upright.shape
    assert corners(picture) == UPRIGHT


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_what_is_transparent_is_white(tmp_path, name):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (200, 0, 0, 255)
    pixels[4:, 4:] = (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    picture = read_image(tmp_path / name)
    assert picture[2, 2].tolist() == [200, 0, 0]
    assert picture[2, 6].tolist() == [255, 255, 255]
    assert picture[6, 6].tolist() == [127, 127, 127]


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (0, 0, 4, 8))
    image.save(tmp_path / "a.png", transparency=0)
    picture = read_image(tmp_path / "a.png")
    assert picture[0, 0].tolist() == [10, 200, 30]
    assert picture[0, 7].tolist() == [255, 255, 255]


def test_grey_with_transparency(tmp_path):
    Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[90] * 3, [255] * 3]


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_grey_of_16_bits(tmp_path, name):
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    assert read_image(tmp_path / name)[0].tolist() == [[n] * 3 for n in (0, 1, 128, 255)]


def test_colours_of_16_bits(tmp_path):
    """Pillow cannot write this, so the chunks of the PNG are put together here."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    row = b"\0" + struct.pack(">6H", 0x1200, 0x8000, 0xFF00, 0, 0, 0xFFFF)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0x12, 0x80, 0xFF], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    picture = Image.fromarray(quarters())
    picture.convert(mode).save(path, quality=95)
    got = read_image(path)
    assert got.shape == (64, 96, 3)
    if mode in ("CMYK", "YCbCr", "P"):
        assert corners(got) == UPRIGHT
    else:
        assert got[5, 5].tolist() == [got[5, 5, 0]] * 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_colour_profile_is_applied(tmp_path, mode):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (srgb.count(b"rXYZ"), srgb.count(b"gXYZ")) == (1, 1)
    names = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    swapped = re.sub(b"[rg]XYZ", lambda name: names[name[0]], srgb)  # red means green
    Image.fromarray(quarters()).convert(mode).save(tmp_path / "a.png", icc_profile=swapped)
    assert corners(read_image(tmp_path / "a.png"))[:2] == ("green", "red")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_broken_colour_profile_is_left_out(tmp_path, mode):
    Image.fromarray(quarters()).convert(mode).save(tmp_path / "a.png", icc_profile=b"not one")
    assert corners(read_image(tmp_path / "a.png")) == UPRIGHT


def test_srgb_is_as_it_is(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(quarters()).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), quarters())


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_the_first_frame_of_an_animation(tmp_path, name):
    first, second = Image.fromarray(quarters()), Image.new("RGB", (96, 64), "white")
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=100)
    assert corners(read_image(tmp_path / name)) == UPRIGHT
    assert not is_still(tmp_path / name)


def test_a_photograph_of_many_pixels(tmp_path):
    # Pillow warns from 89 million on, which would be an error here.
    Image.new("1", (10_000, 9_500)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (9_500, 10_000, 3)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # Pillow's own limit is as before


# What is no picture


@pytest.fixture
def jpeg(tmp_path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tiff"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_picture_that_is_cut_off(tmp_path, ending, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(UserError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "damaged" in str(error.value) or "not a picture" in str(error.value)


def test_bytes_gone_wrong_are_a_picture_or_an_error(jpeg, tmp_path):
    good = jpeg.read_bytes()
    random = np.random.default_rng(0)
    num_errors = 0
    for _ in range(100):
        data = bytearray(good)
        for at in random.integers(0, len(data), 5):
            data[at] = random.integers(0, 256)
        jpeg.write_bytes(data)
        try:
            read_image(jpeg)
        except UserError:
            num_errors += 1
    assert 0 < num_errors < 100


@pytest.mark.parametrize("data", [b"", b"\n".join([b"a text"] * 99), b"\0" * 99])
def test_a_file_of_something_else(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.png: not a picture that can be read, as PNG, JPEG"):
        read_image(path)


def test_heic_is_named(tmp_path):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(99))
    with pytest.raises(UserError, match="HEIC pictures cannot be read; export it as JPEG or PNG"):
        read_image(path)


def test_a_video_is_no_picture(tmp_path):
    path = write_video(tmp_path / "a.mp4", counting(3))
    assert not is_still(path)
    with pytest.raises(UserError, match="not a picture that can be read"):
        read_image(path)


def test_sound_is_no_still(tmp_path):
    assert not is_still(write_sound(tmp_path / "a.wav", np.zeros((2, 4800))))


@pytest.mark.parametrize("attempt", [read_image, is_still])
def test_a_missing_file_is_named(tmp_path, attempt):
    with pytest.raises(UserError, match=r"nowhere\.png: there is no such file"):
        attempt(tmp_path / "nowhere.png")


def test_numbers_that_are_no_colours(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=r"a\.tiff: has 32 bits a pixel; save it with 8 or 16"):
        read_image(tmp_path / "a.tiff")


def test_far_too_many_pixels(tmp_path):
    path = tmp_path / "a.bmp"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)  # the size in the header
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.bmp: has more than 536870912 pixels"):
        read_image(path)


# Compression


def test_the_default_is_that_of_the_version():
    assert default_crf((2, 0)) == default_crf((2, 3, 0)) == 33
    assert default_crf((2, 4)) == default_crf((2, 5, 0)) == 18


def test_a_higher_factor_loses_more():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    errors = [
        np.abs(compress(picture, crf=crf).astype(int) - picture).mean()
        for crf in (0, 1, 18, 33, 51)
    ]
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert errors[2] < errors[3]


def test_colours_survive_compression():
    assert corners(compress(quarters(), crf=33)) == UPRIGHT


@pytest.mark.parametrize(
    ("shape", "after"), [((65, 33), (64, 32)), ((1, 9), (1, 9)), ((4, 8200), (2, 4100))]
)
def test_sizes_are_made_even(shape, after):
    assert compress(np.zeros((*shape, 3), np.uint8), crf=33).shape == (*after, 3)


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_factor_that_does_not_exist_is_named(crf):
    with pytest.raises(UserError, match=rf"CRF of an image is 0 \(off\) to 51, not {crf}"):
        compress(quarters(), crf=crf)


def test_a_file_becomes_pixels(tmp_path):
    Image.fromarray(quarters()).save(tmp_path / "a.png")
    pixels = image_pixels(tmp_path / "a.png", height=32, width=64, crf=18)
    assert pixels.shape == (1, 3, 1, 32, 64)
    back = np.rint((pixels[0, :, 0].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    assert corners(back) == UPRIGHT
