import mlx.core as mx
import pytest

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_train.precompute.store import (
    Maker,
    check_maker,
    known_hash,
    remove_samples,
    stored_notes,
    strangers,
)

OURS = Maker("2.3.0", "aa")


def write(path, **about):
    write_tensors(path, {"latents": mx.zeros((1,))}, {key: str(v) for key, v in about.items()})
    return path


def test_the_hash_is_known_of_what_is_otherwise_asked_for(tmp_path):
    path = write(tmp_path / "a.safetensors", bucket="64x32x9", source_sha256="ff", notes="n")
    assert known_hash(path, {"bucket": "64x32x9"}) == "ff"
    assert known_hash(path, {"bucket": "64x64x9"}) == ""
    assert known_hash(tmp_path / "gone.safetensors", {}) == ""
    path.write_bytes(path.read_bytes()[:-1])
    assert known_hash(path, {"bucket": "64x32x9"}) == ""


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"model_version": "2.0.0", "model_hash": "aa"}, "model version 2.0.0, weights aa;"),
        ({"model_version": "2.3.0", "model_hash": "bb"}, "model version 2.3.0, weights bb;"),
        ({"model_version": "2.3.0"}, "model version 2.3.0, weights unknown;"),
        ({}, "model version unknown, weights unknown;"),
    ],
)
def test_another_maker(tmp_path, about, said):
    path = write(tmp_path / "a.safetensors", **about)
    with pytest.raises(UserError) as error:
        check_maker([tmp_path / "gone.safetensors", path], OURS)
    assert str(error.value).startswith(f"{path}: made with {said}")


def test_our_own(tmp_path):
    path = write(tmp_path / "a.safetensors", **OURS.about, bucket="64x32x9")
    check_maker([path, tmp_path / "gone.safetensors"], OURS)


def test_samples_by_name(tmp_path):
    for name in ("latents/a", "conditions/a", "latents/sub/b", "audio_latents/a.b", "latents/.c"):
        write(tmp_path / f"{name}.safetensors", notes="one; two")
    assert strangers(tmp_path, ["sub/b"]) == ["a", "a.b"]
    assert stored_notes(tmp_path, "a") == ["one", "two"] * 2
    remove_samples(tmp_path, ["a.mp4"])
    assert strangers(tmp_path, []) == ["a.b", "sub/b"]
