import shutil
from itertools import islice

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_train.data.dataset import (
    check_batches,
    endless_batches,
    open_dataset,
    read_features,
    read_latents,
)

LATENTS = {"latents": mx.ones((4, 2, 1, 3))}
CONDITIONS = {
    "video_prompt_embeds": mx.arange(12.0).reshape(3, 4),
    "audio_prompt_embeds": -mx.arange(6.0).reshape(3, 2),
    "prompt_attention_mask": mx.ones(3, mx.bool_),
}


@pytest.fixture
def root(tmp_path):
    """A data folder; give it names, and what is other than usual."""

    def write(*names: str, latents=None, conditions=None, fps: str | None = "24"):
        about = {} if fps is None else {"fps": fps}
        for name in names:
            file = f"{name}.safetensors"
            write_tensors(tmp_path / "latents" / file, LATENTS | (latents or {}), about)
            tensors = CONDITIONS | (conditions or {})
            tensors = {key: value for key, value in tensors.items() if value is not None}
            write_tensors(tmp_path / "conditions" / file, tensors, {})
        return tmp_path

    return write


def test_samples_are_found_in_subfolders(root):
    samples = open_dataset(root("sub/b", "a", "ä"))
    assert [sample.name for sample in samples] == ["a", "sub/b", "ä"]
    assert (samples[0].shape, samples[0].fps, samples[0].num_tokens) == ((4, 2, 1, 3), 24.0, 6)
    assert samples[0].feature_dims == (4, 2)
    assert mx.array_equal(read_latents(samples[0]), LATENTS["latents"])


def test_padded_features_are_read_by_their_mask(root):
    """As the public trainer pads them, on the left, to 1024."""
    pads = {
        key: mx.pad(value.astype(mx.float32), [(1021, 0)] + [(0, 0)] * (value.ndim - 1))
        for key, value in CONDITIONS.items()
    }
    pads["prompt_attention_mask"] = pads["prompt_attention_mask"].astype(mx.int32)
    (sample,) = open_dataset(root("a", conditions=pads))
    features = read_features(sample)
    assert mx.array_equal(features.video, CONDITIONS["video_prompt_embeds"])
    assert mx.array_equal(features.audio, CONDITIONS["audio_prompt_embeds"])


def test_one_tensor_of_features_is_for_both_streams(root):
    (sample,) = open_dataset(root("a", conditions={"audio_prompt_embeds": None}))
    assert sample.feature_dims == (4, 4)
    assert mx.array_equal(read_features(sample).audio, CONDITIONS["video_prompt_embeds"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fps": None}, "its metadata say fps ''; frames a second are wanted"),
        ({"fps": "fast"}, "its metadata say fps 'fast'"),
        ({"fps": "inf"}, "its metadata say fps 'inf'"),
        ({"latents": {"latents": mx.ones((4, 2, 3))}}, "latents has the shape (4, 2, 3); 4 axes"),
        ({"latents": {"latents": mx.ones((4, 0, 2, 3))}}, "latents has the shape (4, 0, 2, 3)"),
        ({"conditions": {"video_prompt_embeds": None}}, "no tensor video_prompt_embeds; it has"),
        ({"conditions": {"prompt_attention_mask": None}}, "no tensor prompt_attention_mask"),
        ({"conditions": {"prompt_attention_mask": mx.ones(4)}}, "are of different lengths"),
    ],
)
def test_samples_that_are_not_whole(root, changes, said):
    with pytest.raises(UserError) as error:
        open_dataset(root("a", **changes))
    assert said in str(error.value)


def test_values_that_cannot_be_trained_on(root):
    (sample,) = open_dataset(root("a", latents={"latents": mx.full((4, 2, 1, 3), float("nan"))}))
    with pytest.raises(UserError, match=r"a\.safetensors: its latents are not all finite"):
        read_latents(sample)
    (sample,) = open_dataset(root("a", conditions={"prompt_attention_mask": mx.zeros(3)}))
    with pytest.raises(UserError, match="0 valid tokens; 1 to 1024 would fit"):
        read_features(sample)


def test_folders_without_samples(root, tmp_path):
    with pytest.raises(UserError, match=r"it has no folder latents\.\nltx-precompute --input-dir"):
        open_dataset(tmp_path)
    folder = root("a")
    with pytest.raises(UserError, match="it has no folder other"):
        open_dataset(folder, latents_dir="other")
    (folder / "latents" / "a.safetensors").unlink()
    with pytest.raises(UserError, match=r"latents: no sample \(\.safetensors\) in it"):
        open_dataset(folder)


def test_latents_without_text_are_an_error(root):
    folder = root("a", "b", "sub/c")
    shutil.rmtree(folder / "conditions" / "sub")
    (folder / "conditions" / "a.safetensors").unlink()
    with pytest.raises(UserError) as error:
        open_dataset(folder)
    said = str(error.value).splitlines()
    assert "2 of 3 samples have no text features" in said[0]
    assert said[1:3] == ["a.safetensors", "sub/c.safetensors"]


def test_every_sample_once_an_epoch_in_an_order_of_the_seed(root):
    samples = open_dataset(root(*"abcdefg"))

    def names(seed: int, size: int, batches: int) -> list[str]:
        chosen = islice(endless_batches(samples, batch_size=size, seed=seed), batches)
        return ["".join(sample.name for sample in batch) for batch in chosen]

    epochs = names(3, 1, 14)
    assert sorted(epochs[:7]) == sorted(epochs[7:]) == list("abcdefg")
    assert epochs[:7] != epochs[7:]
    assert names(3, 1, 14) == epochs != names(4, 1, 14)
    pairs = names(3, 2, 3)
    assert [len(pair) for pair in pairs] == [2, 2, 2]
    assert len(set("".join(pairs))) == 6


def test_batches_that_cannot_be_made(root):
    samples = open_dataset(root("a", "b"))
    check_batches(samples, batch_size=2)
    with pytest.raises(UserError, match=r"optimization\.batch_size 3: there are 2 samples"):
        check_batches(samples, batch_size=3)
    mixed = open_dataset(root("c", latents={"latents": mx.ones((4, 1, 1, 3))}))
    check_batches(mixed, batch_size=1)
    with pytest.raises(UserError, match=r"different sizes .*: 1x1x3, 2x1x3\); 1 would fit"):
        check_batches(mixed, batch_size=2)


def test_what_ltx_precompute_writes_is_a_dataset(data):
    samples = open_dataset(data)
    assert [sample.name for sample in samples] == ["a", "sub/b"]
    assert samples[0].shape == (16, 2, 1, 2)
    features = read_features(samples[0])
    assert features.video.shape[0] == features.audio.shape[0] > 1
    assert np.isfinite(np.array(features.video)).all()
