"""Pictures with what is transparent in them, read and written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_infer.media.container import read_comment
from ltx_infer.media.images import read_image
from ltx_infer.media.stills import Still, check_still, read_still, resized, write_still
from ltx_models.errors import UserError
from tests.infer.media.odd_media import corners, quarters
from tests.infer.media.written import files_of_at_most, only


def half_seen(*, height: int = 64, width: int = 96) -> Still:
    """Coloured quarters whose right half is transparent."""
    alpha = np.full((height, width), 255, np.uint8)
    alpha[:, width // 2 :] = 0
    return Still(quarters(height=height, width=width), alpha, "a word")


@pytest.mark.parametrize("ending", [".png", ".PNG", ".webp"])
def test_what_is_transparent_is_kept_apart(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_still(path, half_seen())
    still = read_still(path, on_white=False)
    assert still.alpha is not None
    assert np.array_equal(still.alpha, half_seen().alpha)
    assert corners(still.pixels)[0::2] == ("red", "blue")
    if ending != ".webp":  # which gives transparent pixels any colour
        assert np.array_equal(still.pixels, half_seen().pixels)
        assert still.comment == read_comment(path) == "a word"
    assert only(path)


def test_on_white_it_is_as_read_image_has_it(tmp_path):
    write_still(tmp_path / "a.png", half_seen())
    still = read_still(tmp_path / "a.png", on_white=True)
    assert still.alpha is None
    assert np.array_equal(still.pixels, read_image(tmp_path / "a.png"))
    assert (still.pixels[:, 48:] == 255).all()


def test_a_jpeg_has_a_comment_and_nothing_transparent(tmp_path):
    write_still(tmp_path / "a.jpeg", half_seen())
    still = read_still(tmp_path / "a.jpeg", on_white=False)
    assert (still.alpha, still.comment) == (None, "a word")
    assert corners(still.pixels) == ("red", "green", "blue", "grey")


@pytest.mark.parametrize(("mode", "colour"), [("LA", (90, 100)), ("RGBA", (90, 90, 90, 100))])
def test_grey_and_coloured_pictures(tmp_path, mode, colour):
    Image.new(mode, (4, 2), colour).save(tmp_path / "a.png")
    still = read_still(tmp_path / "a.png", on_white=False)
    assert still.alpha is not None
    assert (still.pixels == 90).all()
    assert (still.alpha == 100).all()


def test_a_picture_that_is_opaque_after_all(tmp_path):
    Image.new("RGBA", (4, 2), (1, 2, 3, 255)).save(tmp_path / "a.png")
    assert read_still(tmp_path / "a.png", on_white=False).alpha is None


def test_one_channel_at_another_size():
    alpha = np.repeat(np.uint8([[0], [255]]), 3, axis=1)
    larger = resized(alpha, height=8, width=6)
    assert larger.shape == (8, 6)
    assert (np.diff(larger[:, 0].astype(int)) >= 0).all()
    assert (larger[0, 0], larger[-1, 0]) == (0, 255)


# Errors


def test_another_ending(tmp_path):
    with pytest.raises(UserError, match=r"a\.bmp: the name of a picture ends in \.png, \.webp, "):
        check_still(tmp_path / "a.bmp")
    with pytest.raises(UserError, match="there is no folder"):
        check_still(tmp_path / "gone" / "a.png")


@pytest.mark.parametrize(("name", "most"), [("a.webp", 16_383), ("a.jpg", 65_500)])
def test_a_picture_that_its_form_cannot_hold(tmp_path, name, most):
    long = Still(np.zeros((1, most + 1, 3), np.uint8))
    said = f"{name[1:]} has {most} pixels a side at most; take a .png"
    with pytest.raises(UserError, match=said):
        write_still(tmp_path / name, long)
    assert not list(tmp_path.iterdir())
    write_still(tmp_path / "a.png", long)


def test_a_disk_that_is_full(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with files_of_at_most(4000), pytest.raises(UserError, match=r"a\.png: cannot be written: "):
        write_still(tmp_path / "a.png", Still(noise))
    assert not list(Path(tmp_path).iterdir())
