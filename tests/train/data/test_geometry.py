import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_train.data.dataset import open_dataset
from tests.train.data.sets import put, put_sample

CLIP = (4, 9, 4, 6)
SPATIAL, TEMPORAL = "reference_spatial_scale_factor", "reference_temporal_scale_factor"


@pytest.fixture
def factors(tmp_path):
    """The factors of references, each of a name, its clip's and its own shape, and metadata."""

    def factors(*references):
        for name, clip, own, about in references:
            put_sample(tmp_path, name, latents=np.zeros(clip, np.float32))
            path = tmp_path / f"refs/{name}.safetensors"
            put(path, {"latents": np.zeros(own, np.float32)}, fps=12, **about)
        folders = {"latents": "video", "refs": "video_reference"}
        return open_dataset(tmp_path, folders).factors["refs"]

    return factors


@pytest.mark.parametrize(
    ("clip", "own", "about", "found"),
    [
        (CLIP, CLIP, {}, (1, 1)),
        (CLIP, (4, 9, 2, 3), {}, (2, 1)),
        (CLIP, (4, 5, 2, 3), {}, (2, 2)),
        (CLIP, (4, 3, 4, 6), {}, (1, 4)),
        (CLIP, (4, 1, 4, 6), {}, (1, 1)),  # a still
        ((4, 1, 4, 6), (4, 1, 2, 3), {}, (2, 1)),
        ((4, 1, 4, 6), (4, 1, 2, 3), {SPATIAL: 2, TEMPORAL: 3}, (2, 3)),
        (CLIP, (4, 5, 2, 3), {SPATIAL: 2, TEMPORAL: 2}, (2, 2)),
    ],
)
def test_factors_of_a_reference(factors, clip, own, about, found):
    assert factors(("a", clip, own, about)) == found


def test_a_still_takes_the_others_factor_in_time(factors):
    still = ("a", (4, 1, 4, 6), (4, 1, 2, 3), {})
    assert factors(still, ("b", CLIP, (4, 5, 2, 3), {}), ("c", *still[1:])) == (2, 2)


@pytest.mark.parametrize(
    ("own", "about"),
    [
        ((4, 9, 3, 6), {}),
        ((4, 9, 2, 6), {}),
        ((4, 9, 8, 12), {}),
        ((4, 4, 4, 6), {}),
        ((4, 17, 4, 6), {}),
        ((5, 9, 4, 6), {}),
        ((4, 9, 2, 3), {SPATIAL: 3}),
        ((4, 5, 4, 6), {TEMPORAL: 4}),
    ],
)
def test_references_that_do_not_fit(factors, own, about):
    with pytest.raises(UserError) as error:
        factors(("a", CLIP, own, about))
    size = "x".join(map(str, own))
    assert f"refs/a.safetensors: a reference of {size} latents" in str(error.value)
    assert "for a clip of 4x9x4x6;" in str(error.value)
    assert ("metadata say" in str(error.value)) == bool(about)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ((4, 9, 4, 6), "1 times smaller than its clip in space"),
        ((4, 5, 2, 3), "2 times smaller than its clip in time"),
    ],
)
def test_factors_that_differ_name_two_files(factors, other, where):
    with pytest.raises(UserError) as error:
        factors(("a", CLIP, (4, 9, 2, 3), {}), ("b", CLIP, other, {}))
    first, second = str(error.value).splitlines()
    assert f"refs/b.safetensors: {where}, but" in first
    assert "refs/a.safetensors: " in second


@pytest.mark.parametrize(
    ("role", "tensors", "said"),
    [
        ("video_mask", {"mask": np.ones((2, 1, 2))}, "a mask of 2x1x2; .* are 2x1x3"),
        ("audio_mask", {"mask": np.ones(4)}, "a mask of 4; .* are 5"),
        ("audio_reference", {"latents": np.ones((8, 5, 4))}, "8 channels x 4 bins; .* 8 x 16"),
    ],
)
def test_parts_that_do_not_lie_on_their_latents(tmp_path, role, tensors, said):
    put_sample(tmp_path, "a")
    put(tmp_path / "audio_latents/a.safetensors", {"latents": np.ones((8, 5, 16), np.float32)})
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    put(tmp_path / "side/a.safetensors", tensors)
    folders = {"latents": "video", "audio_latents": "audio", "side": role}
    with pytest.raises(UserError, match=f"side/a.safetensors: .*{said}"):
        open_dataset(tmp_path, folders)
