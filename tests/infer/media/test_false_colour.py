import numpy as np

from ltx_infer.media.false_colour import false_colour, latents_sheet
from ltx_infer.media.preview import GAP, LABEL, LONGEST_SIDE

RANDOM = np.random.default_rng(0)


def test_what_differs_most_is_seen_most():
    """Three directions of falling strength, hidden in 16 channels, are red, green and blue."""
    strengths = RANDOM.normal(size=(3, 5, 6, 7))
    basis = np.linalg.qr(RANDOM.normal(size=(16, 3)))[0]
    latents = np.einsum("cd,dfhw->cfhw", basis * (9, 3, 1), strengths) + 4
    colours = false_colour(latents)
    assert colours.shape == (5, 6, 7, 3)
    assert colours.dtype == np.uint8
    for colour, strength in zip(np.moveaxis(colours, -1, 0), strengths, strict=True):
        assert abs(np.corrcoef(colour.ravel(), strength.ravel())[0, 1]) > 0.95


def test_colours_do_not_depend_on_sign_or_scale_of_the_directions():
    latents = RANDOM.normal(size=(16, 2, 3, 4))
    np.testing.assert_array_equal(false_colour(latents), false_colour(2 * latents))
    swapped = false_colour(latents[::-1])
    np.testing.assert_array_equal(false_colour(latents), swapped)


def test_flat_latents_and_few_channels_have_colours():
    assert (np.abs(false_colour(np.ones((16, 1, 2, 2))).astype(int) - 127) <= 1).all()
    assert false_colour(RANDOM.normal(size=(2, 3, 4, 4))).shape == (3, 4, 4, 3)


def test_the_sheet_has_the_latent_frames_and_the_sound_below():
    video, audio = RANDOM.normal(size=(16, 5, 4, 8)), RANDOM.normal(size=(8, 30, 16))
    how = {"fps": 24, "frames_a_latent": 8}
    silent = latents_sheet(video, None, **how)
    height = LONGEST_SIDE // 8 * 4
    assert silent.shape[:2] == (2 * (height + LABEL + GAP) + GAP, 4 * (LONGEST_SIDE + GAP) + GAP)
    first = silent[GAP : GAP + height, GAP : GAP + LONGEST_SIDE]
    np.testing.assert_array_equal(first[::40, ::40], false_colour(video)[0])
    both = latents_sheet(video, audio, **how)
    np.testing.assert_array_equal(both[: len(silent) - GAP], silent[:-GAP])
    assert both.shape[0] > silent.shape[0]
    alone = latents_sheet(None, audio, **how)
    low = false_colour(audio)[0, 0]  # first in time, lowest, so at the bottom left
    np.testing.assert_array_equal(alone[GAP + 95, GAP], low)
