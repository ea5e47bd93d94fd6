"""Data and bases that do not belong together, and triggers that no caption has."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.tiny import tiny_folder
from ltx_train.config import ModelConfig
from ltx_train.data.dataset import open_dataset
from ltx_train.runs.checks import check_samples, check_trigger, check_values, find_base
from tests.train.data.sets import put

LATENTS = np.zeros((16, 2, 1, 2), np.float32)
SOUND = np.zeros((2, 9, 16), np.float32)
BOTH = ("video", "audio")


@pytest.fixture
def checkpoint(tiny):
    return open_checkpoint(find_base(ModelConfig(model_path="tiny")).checkpoint)


def put_whole(root: Path, about=None, *, latents=LATENTS, sound=SOUND, widths=(64, 32)):
    """A sample with sound, of which each file says ``about`` by the name of its folder."""
    said = {"latents": {}, "audio_latents": {}, "conditions": {}, **(about or {})}
    put(root / "latents/a.safetensors", {"latents": latents}, fps=24.0, **said["latents"])
    put(root / "audio_latents/a.safetensors", {"latents": sound}, **said["audio_latents"])
    features = {
        "video_prompt_embeds": np.zeros((3, widths[0]), np.float32),
        "audio_prompt_embeds": np.zeros((3, widths[1]), np.float32),
        "prompt_attention_mask": np.ones(3, bool),
    }
    put(root / "conditions/a.safetensors", features, **said["conditions"])
    return open_dataset(root, {"latents": "video", "audio_latents": "audio"})


def test_what_this_model_made_fits(data, checkpoint):
    check_samples(open_dataset(data, {"latents": "video"}).samples, checkpoint, ("video",))


def test_files_that_do_not_say_what_made_them_fit_by_their_shapes(tmp_path, checkpoint):
    check_samples(put_whole(tmp_path).samples, checkpoint, BOTH)


OTHER = "ltx-precompute --overwrite makes it anew with this model"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (
            {"latents": {"model_version": "2.0"}},
            "latents/a.safetensors: made for model version 2.0",
        ),
        ({"latents": {"model_hash": "beef"}}, "latents/a.safetensors: made with weights beef;"),
        ({"audio_latents": {"model_hash": "beef"}}, "audio_latents/a.safetensors: made with weigh"),
        ({"conditions": {"model_hash": "1-beef"}}, "conditions/a.safetensors: made with weights b"),
        ({"conditions": {"model_version": "2"}}, "conditions/a.safetensors: made for model vers"),
    ],
)
def test_what_another_model_made(tmp_path, checkpoint, about, said):
    with pytest.raises(UserError) as error:
        check_samples(put_whole(tmp_path, about).samples, checkpoint, BOTH)
    first, second = str(error.value).splitlines()
    assert said in first
    assert second == OTHER


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"latents": np.zeros((128, 2, 1, 2), np.float32)},
            "latents/a.safetensors: latents of 128 channels; ltx-2.3-tiny.safetensors takes 16",
        ),
        (
            {"sound": np.zeros((2, 9, 8), np.float32)},
            "latents of 2 x 8 channels x bins; ltx-2.3-tiny.safetensors takes 2 x 16",
        ),
        (
            {"widths": (7, 32)},
            "conditions/a.safetensors: text features of 7 channels; ltx-2.3-tiny.safetensors ta",
        ),
    ],
)
def test_sizes_of_another_model(tmp_path, checkpoint, changes, said):
    with pytest.raises(UserError) as error:
        check_samples(put_whole(tmp_path, **changes).samples, checkpoint, BOTH)
    assert said in str(error.value)


def test_text_features_of_a_stream_that_is_not_there_may_be_of_any_width(tmp_path, checkpoint):
    check_samples(put_whole(tmp_path, widths=(64, 7)).samples, checkpoint, ("video",))


def test_all_values_are_read(tmp_path, data):
    done = []
    check_values(
        open_dataset(data, {"latents": "video"}).samples, report=lambda *each: done.append(each)
    )
    assert done == [("data", 0, 2), ("data", 1, 2), ("data", 2, 2)]
    wrong = put_whole(tmp_path, latents=np.full((16, 2, 1, 2), np.nan, np.float32))
    with pytest.raises(UserError, match=r"latents/a\.safetensors: its latents are not all finite"):
        check_values(wrong.samples, report=lambda *_: None)


@pytest.mark.parametrize(
    ("caption", "word", "notes"),
    [
        ("a zxc hat", "zxc", []),
        ("a zxc hat", None, []),
        (None, "zxc", []),
    ],
)
def test_a_trigger_that_is_there(tmp_path, caption, word, notes):
    about = {} if caption is None else {"caption": caption}
    samples = put_whole(tmp_path, {"conditions": about}).samples
    assert check_trigger(word, samples) == notes


@pytest.mark.parametrize("caption", ["a hat", "a zxcv hat", ""])
def test_a_trigger_that_no_caption_has(tmp_path, caption):
    samples = put_whole(tmp_path, {"conditions": {"caption": caption}}).samples
    with pytest.raises(UserError) as error:
        check_trigger("zxc", samples)
    assert str(error.value).splitlines() == [
        f"data.trigger 'zxc': none of 1 captions contains it; the first is {caption!r}.",
        "ltx-precompute --trigger zxc puts it in front of each",
    ]


def test_captions_without_the_trigger_are_counted(tmp_path):
    one = put_whole(tmp_path / "1", {"conditions": {"caption": "zxc, a hat"}}).samples
    other = put_whole(tmp_path / "2", {"conditions": {"caption": "a cat"}}).samples
    note = "trigger 'zxc': 1 of 2 captions do not contain it"
    assert check_trigger("zxc", [*one, *other]) == [note]


def test_a_distilled_base_is_refused_unless_allowed(tiny, tmp_path):
    path = tmp_path / "ltx-2.3-22b-distilled.safetensors"
    path.symlink_to(next(tiny_folder().glob("ltx-*-tiny.safetensors")))
    with pytest.raises(UserError) as error:
        find_base(ModelConfig(model_path=str(path)))
    first, second = str(error.value).splitlines()
    assert first.endswith("An adapter is trained on the dev weights, and then works on both.")
    assert second == "Name the dev checkpoint, or set model.allow_distilled=true"
    assert find_base(ModelConfig(model_path=str(path), allow_distilled=True)).checkpoint == path


def test_of_a_folder_the_dev_weights_are_taken(tiny, tmp_path):
    source = next(tiny_folder().glob("ltx-*-tiny.safetensors"))
    for variant in ("dev", "distilled"):
        (tmp_path / f"ltx-2.3-22b-{variant}.safetensors").symlink_to(source)
    assert find_base(ModelConfig(model_path=str(tmp_path))).variant == "dev"
    distilled = ModelConfig(model_path=str(tmp_path), allow_distilled=True)
    assert find_base(distilled).variant == "distilled"


def test_a_model_that_is_not_there_is_told_by_its_key(tmp_path):
    with pytest.raises(UserError, match=f"model.model_path {tmp_path}/gone: no such file"):
        find_base(ModelConfig(model_path=f"{tmp_path}/gone"))


def test_written_latents_are_found_by_hash(data, checkpoint, tmp_path):
    """The hash is of the weights: another file with the same metadata would not do."""
    (path,) = data.glob("latents/a.safetensors")
    tensors, about = mx.load(str(path), return_metadata=True)
    write_tensors(tmp_path / "latents/a.safetensors", tensors, {**about, "model_hash": "0" * 16})
    (tmp_path / "conditions").mkdir()
    (tmp_path / "conditions/a.safetensors").symlink_to(data / "conditions/a.safetensors")
    samples = open_dataset(tmp_path, {"latents": "video"}).samples
    with pytest.raises(UserError, match="made with weights 0000000000000000; those of the model"):
        check_samples(samples, checkpoint, ("video",))
