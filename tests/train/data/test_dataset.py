import shutil

import numpy as np
import pytest

from ltx_infer.info import folders
from ltx_models.errors import UserError
from ltx_train.data.dataset import open_dataset
from ltx_train.data.layout import KINDS, MANIFEST
from ltx_train.data.samples import read_features, read_part
from tests.train.data.sets import CONDITIONS, LATENTS, put, put_sample

VIDEO = {"latents": "video"}
EVERYTHING = {
    "latents": "video",
    "audio_latents": "audio",
    "reference_latents": "video_reference",
    "reference_audio_latents": "audio_reference",
    "video_masks": "video_mask",
    "audio_masks": "audio_mask",
}


def said(root, folders=VIDEO) -> str:
    with pytest.raises(UserError) as error:
        open_dataset(root, folders)
    assert len(str(error.value).splitlines()) <= 4
    return str(error.value)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_samples_are_found_in_subfolders(tmp_path, ending):
    for name in ("sub/b", "a", "ä", "v1.2"):
        put_sample(tmp_path, name, ending=ending)
    samples = open_dataset(tmp_path, VIDEO).samples
    assert [sample.name for sample in samples] == ["a", "sub/b", "v1.2", "ä"]
    assert (samples[0].shape, samples[0].fps, samples[0].num_tokens) == ((4, 2, 1, 3), 24.0, 6)
    assert samples[0].feature_dims == (4, 2)
    assert samples[0].shapes == ((4, 2, 1, 3),)
    assert np.array_equal(np.array(read_part(samples[0].part("video"))), LATENTS)
    assert np.array_equal(
        np.array(read_features(samples[0].conditions).video), np.arange(12).reshape(3, 4)
    )


def everything(root, ending="safetensors") -> None:
    """Two samples with every kind of part; the reference has half the size and half the rate."""
    for name in ("a", "b"):
        put_sample(root, name, latents=np.zeros((4, 5, 2, 6), np.float32), ending=ending)
        parts = {
            "audio_latents": {"latents": np.zeros((8, 7, 16), np.float32)},
            "reference_audio_latents": {"latents": np.ones((8, 3, 16), np.float32)},
            "video_masks": {"mask": np.ones((5, 2, 6), np.float32)},
            "audio_masks": {"mask": np.ones(7, np.float32)},
        }
        for kind, tensors in parts.items():
            put(root / f"{kind}/{name}.{ending}", tensors)
        reference = {"latents": np.ones((4, 3, 1, 3), np.float32)}
        put(root / f"reference_latents/{name}.{ending}", reference, fps=12.0)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_every_kind_of_part(tmp_path, ending):
    everything(tmp_path, ending)
    data = open_dataset(tmp_path, EVERYTHING)
    sample = data.samples[1]
    assert list(sample.parts) == list(EVERYTHING)
    assert [part.role for part in sample.parts.values()] == list(EVERYTHING.values())
    assert sample.shapes[1:] == ((8, 7, 16), (4, 3, 1, 3), (8, 3, 16), (5, 2, 6), (7,))
    assert sample.parts["reference_latents"].fps == 12.0
    assert data.factors == {"reference_latents": (2, 2)}
    assert read_part(sample.part("audio_mask")).shape == (7,)
    assert len(sample.files) == 7
    sound = open_dataset(tmp_path, {"audio_latents": "audio"}).samples[0]
    assert sound.part("audio").num_tokens == 7
    with pytest.raises(KeyError):
        sound.part("video")


def test_folders_have_the_names_that_the_run_gives(tmp_path):
    put_sample(tmp_path, "a")
    (tmp_path / "latents").rename(tmp_path / "small")
    assert list(open_dataset(tmp_path, {"small": "video"}).samples[0].parts) == ["small"]


def test_folders_are_below_the_root_wherever_the_run_starts(tmp_path, monkeypatch):
    everything(tmp_path / "here/data")
    monkeypatch.chdir(tmp_path / "here")
    from_here = open_dataset((tmp_path / "here/data").relative_to(tmp_path / "here"), EVERYTHING)
    monkeypatch.chdir("/")
    assert from_here.factors == open_dataset(tmp_path / "here/data", EVERYTHING).factors


def test_the_public_trainers_folder_in_a_folder_of_clips(tmp_path):
    put_sample(tmp_path / ".precomputed", "a", ending="pt")
    for root in (tmp_path, tmp_path / ".precomputed"):
        assert [sample.name for sample in open_dataset(root, VIDEO).samples] == ["a"]
    put_sample(tmp_path, "b")
    assert "latents is in it and in its .precomputed;" in said(tmp_path)


def test_the_public_trainers_old_names(tmp_path):
    for number in (1, 2):
        put_sample(tmp_path, f"sub/latent_{number}", ending="pt")
        here = tmp_path / "conditions/sub"
        (here / f"latent_{number}.pt").rename(here / f"condition_{number}.pt")
    data = open_dataset(tmp_path, VIDEO)
    assert [s.conditions.path.name for s in data.samples] == ["condition_1.pt", "condition_2.pt"]
    assert not any("belong to no sample" in note for note in data.notes)


def test_folders_without_samples(tmp_path):
    root = tmp_path / "data"
    assert f"{root}: it has no folder latents.\nltx-precompute --input-dir" in said(root)
    put_sample(root, "a")
    assert "it has no folder other" in said(root, {"other": "video"})
    assert "--with-audio makes it" in said(root, {**VIDEO, "audio_latents": "audio"})
    assert "--reference-dir REFERENCES makes it" in said(root, {**VIDEO, "r": "video_reference"})
    (root / "latents/a.safetensors").rename(root / "latents/.a.safetensors")
    assert "latents: no sample (.safetensors, .pt) in it" in said(root)
    shutil.rmtree(root / "conditions")
    assert "it has no folder conditions" in said(root)


def test_samples_that_are_not_whole_are_an_error(tmp_path):
    everything(tmp_path)
    for name in ("c", "d", "e", "f"):
        put_sample(tmp_path, name)
    (tmp_path / "conditions/a.safetensors").unlink()
    folders = {**VIDEO, "audio_latents": "audio"}
    lines = said(tmp_path, folders).splitlines()
    assert lines[0] == f"{tmp_path}: 5 of 6 samples are not whole. Missing:"
    assert lines[1] == "4 in audio_latents (c, d, e, ...); 1 in conditions (a)"
    assert lines[2].endswith("--with-audio makes what is missing;")
    assert lines[3] == "or take these samples out of latents"


def test_files_that_belong_to_no_sample_are_noted(tmp_path):
    everything(tmp_path)
    (tmp_path / "latents/b.safetensors").unlink()
    data = open_dataset(tmp_path, {**VIDEO, "audio_latents": "audio"})
    assert [sample.name for sample in data.samples] == ["a"]
    assert data.notes[:2] == [
        f"{kind}: 1 of 2 files belong to no sample of latents, and are left out: b"
        for kind in ("audio_latents", "conditions")
    ]


def test_a_sample_in_two_forms_is_an_error(tmp_path):
    put_sample(tmp_path, "a")
    put_sample(tmp_path, "a", ending="pt")
    assert "a.pt and a.safetensors: which of them? Remove one" in said(tmp_path)


def test_what_files_do_not_say_is_noted(tmp_path):
    put_sample(tmp_path, "a")
    put(tmp_path / "latents/b.pt", {"latents": LATENTS})
    put(tmp_path / "conditions/b.pt", CONDITIONS)
    about = {"caption": "zorg at sea", "trigger": "zorg", "model_version": "2.3.0"}
    put(tmp_path / "conditions/a.safetensors", CONDITIONS, **about)
    data = open_dataset(tmp_path, VIDEO)
    assert data.notes == [
        "1 of 2 files do not say fps; 24 is taken",
        "1 of 2 files do not say caption; no trigger can be looked for in them",
        "3 of 4 files do not say model_version; which made them is not checked",
    ]
    assert [sample.caption for sample in data.samples] == ["zorg at sea", None]
    assert data.samples[0].conditions.metadata["model_version"] == "2.3.0"


def test_the_empty_prompt_is_there_or_not(tmp_path):
    put_sample(tmp_path, "a")
    assert open_dataset(tmp_path, VIDEO).empty_prompt is None
    put(tmp_path / "empty_prompt.safetensors", CONDITIONS)
    empty = open_dataset(tmp_path, VIDEO).empty_prompt
    assert read_features(empty).video.shape == (3, 4)


def test_a_malicious_file_stops_the_opening(tmp_path):
    put_sample(tmp_path, "a")
    (tmp_path / "conditions/a.safetensors").rename(tmp_path / "conditions/a.pt")
    assert said(tmp_path).startswith(f"{tmp_path}/conditions/a.pt: not a whole file of torch.save")


def test_what_ltx_precompute_writes_is_a_dataset(data):
    samples = open_dataset(data, VIDEO).samples
    assert [sample.name for sample in samples] == ["a", "sub/b"]
    assert samples[0].shape == (16, 2, 1, 2)
    features = read_features(samples[0].conditions)
    assert features.video.shape[0] == features.audio.shape[0] > 1


def test_info_knows_a_data_set_by_the_same_names():
    assert (folders.KINDS, folders.MANIFEST) == (KINDS, MANIFEST)
