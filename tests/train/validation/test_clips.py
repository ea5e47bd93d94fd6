import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from ltx_infer.config import build
from ltx_infer.generate import generate
from ltx_infer.hub import ModelFiles
from ltx_infer.hub.place import folder_place
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.adapters import lora_tensors
from ltx_models.lora.linear import lora_layers
from ltx_train.model import load_trainable
from ltx_train.step import new_state
from ltx_train.validation.clips import make_clips, saved_weights
from ltx_train.validation.prepare import check_validation, prepare_validation
from tests.end_to_end.conftest import read_clip
from tests.train.validation.conftest import config, quiet, sample

# What the section's defaults are, as flags of ltx-generate.
FLAGS = {
    "pipeline": "dev",
    "model": "tiny",
    "prompt": "waves",
    "width": 64,
    "height": 64,
    "num_frames": 9,
    "steps": 2,
    "stg_scale": 1.0,
    "modality_scale": 3.0,
    "max_batch_size": 1,
}
VIDEO = {"name": "flexible", "video": {}}


@pytest.fixture(scope="module")
def make(files, checkpoint, tmp_path_factory):
    """From a configuration to the clips of one validation; the model may be given."""

    def make(given, model=None, *, step=0, folder=None, report=quiet):
        prepared = prepare_validation(given, checkpoint, files, dtype=mx.float32)
        model = model or load_trainable(checkpoint, given).model
        folder = folder or tmp_path_factory.mktemp("run")
        return make_clips(model, prepared, folder, step, report=report)

    return make


def train_a_little(model) -> None:
    """An adapter that changes something."""
    for layer in lora_layers(model).values():
        layer.lora_B = 0.3 * mx.random.normal(layer.lora_B.shape, key=mx.random.key(3))


def test_a_clip_is_that_of_ltx_generate(make, tmp_path):
    """Before the first step, bit for bit."""
    words = {**FLAGS, "audio": True, "seed": 0, "output_path": tmp_path / "base.mp4"}
    generate(build(words), report=quiet)
    (base,) = make(config(samples=sample(seed=0)), folder=tmp_path)
    assert base == ("waves", tmp_path / "samples" / "step_000000_1.mp4", ())
    made, shown = read_clip(tmp_path / "base.mp4"), read_clip(base.path)
    assert np.array_equal(made.frames, shown.frames)
    assert np.array_equal(made.sound, shown.sound)


@pytest.mark.slow
def test_an_adapted_clip_is_that_of_ltx_generate(make, checkpoint, tmp_path):
    """With the adapter as its file has it."""
    given = config(samples=sample(seed=0))
    model = load_trainable(checkpoint, given).model
    (base,) = make(given, model, folder=tmp_path)
    train_a_little(model)
    write_tensors(tmp_path / "lora.safetensors", lora_tensors(model), {})
    flags = {"lora": [(str(tmp_path / "lora.safetensors"),)], "lora_mode": "attach"}
    words = {**FLAGS, "audio": True, "seed": 0, "output_path": tmp_path / "lora.mp4", **flags}
    generate(build(words), report=quiet)
    (adapted,) = make(given, model, step=10, folder=tmp_path)
    assert adapted.path.name == "step_000010_1.mp4"
    want, got = read_clip(tmp_path / "lora.mp4").frames, read_clip(adapted.path).frames
    assert np.abs(want.astype(int) - got).max() <= 2
    assert np.abs(want.astype(int) - read_clip(base.path).frames).mean() > 1


def test_forms_and_seeds(make):
    """A still is a PNG, sound alone a WAV; seed 0 is a seed of its own."""
    still = {"prompt": "waves", "video_dims": [64, 64, 1]}
    seeds = [{**still, "seed": 0}, {**still, "seed": 42}, still]
    zero, default, same = make(config(samples=seeds, strategy=VIDEO, stg_blocks=[1]))
    assert [each.path.suffix for each in (zero, default, same)] == [".png"] * 3
    assert default.path.read_bytes() == same.path.read_bytes() != zero.path.read_bytes()
    (sound,) = make(config(samples=sample(), generate_video=False))
    assert sound.path.name == "step_000000_1.wav"
    assert sound.path.stat().st_size == 44 + 4 * (1 + 8 * 4) * 480


def test_what_is_given_is_in_the_clip(make, in_media):
    """The reference to the left; the sound that is given as it is."""
    shown = {"type": "reference", "video": "clip.mp4", "include_in_output": True}
    small = {**shown, "downscale_factor": 2, "include_in_output": False}
    given = {"type": "audio_to_video", "audio": "sound.wav"}
    (both,) = make(config(samples=sample(small, shown, given), generate_audio=False))
    clip = read_clip(both.path)
    assert clip.frames.shape == (9, 64, 128, 3)
    assert not np.array_equal(clip.frames[:, :, :64], clip.frames[:, :, 64:])
    assert np.abs(clip.sound).max() > 0.3


def test_a_clip_that_is_not_plausible_stops_nothing(make, checkpoint):
    given = config(samples=[{"prompt": "one"}, {"prompt": "two"}], strategy=VIDEO)
    model = load_trainable(checkpoint, given).model
    model.proj_out.weight = mx.full(model.proj_out.weight.shape, float("nan"))
    clips = make(given, model)
    assert [(each.prompt, each.path) for each in clips] == [("one", None), ("two", None)]
    assert clips[0].faults == (
        "sampling, 64x64, step 1, video: 128 of 128 latent values are not finite.",
    )


def test_a_clip_that_is_strange_is_kept(make, checkpoint, monkeypatch):
    """Silence, and frames that are all the same, may be what the data are: one looks and sees."""
    monkeypatch.setattr("ltx_infer.pipeline.sanity.SILENCE_DBFS", 0.0)
    monkeypatch.setattr("ltx_infer.pipeline.sanity.FRAME_STD", 1.0)
    (clip,) = make(config(samples=sample()))
    assert clip.path.exists()
    silent, flat = clip.faults
    assert "the sound is silence" in silent
    assert "9 of 9 frames are of one colour" in flat


def test_it_can_be_stopped_inside_a_clip(make, tmp_path):
    told = []

    def stop(*given):
        told.append(given)
        if len(told) == 3:  # before the clip, before its first noise level, after it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(config(samples=sample()), folder=tmp_path, report=stop)
    assert told == [("validation at step 0", 0, 1)] * 3
    assert not list((tmp_path / "samples").iterdir())


def test_weights_that_would_be_saved(checkpoint):
    model = load_trainable(checkpoint, config()).model
    state = new_state(model, keep_average=True)
    average = {name: x + 1 for name, x in state.average.items()}

    def weights():
        return {name: np.array(x) for name, x in tree_flatten(model.trainable_parameters())}

    before = weights()
    with saved_weights(model, state._replace(average=average)):
        inside = weights()
    assert all(np.array_equal(inside[name], average[name]) for name in before)
    assert all(np.array_equal(value, before[name]) for name, value in weights().items())
    with saved_weights(model, state._replace(average={})):
        assert all(np.array_equal(value, before[name]) for name, value in weights().items())


def test_without_samples_nothing_is_read(files, checkpoint):
    for given in (config(), config(samples=sample(), interval=None)):
        given = given.model_copy(
            update={"model": given.model.model_copy(update={"text_encoder_path": "gone"})}
        )
        prepared = prepare_validation(given, checkpoint, files, dtype=mx.float32)
        assert (prepared.samples, prepared.notes) == ((), ())
        assert check_validation(given, checkpoint, files, dtype=mx.float32) == []


def test_a_check_without_weights(files, checkpoint, in_media):
    given = config(samples=sample({"type": "audio_to_video", "audio": "short.wav"}))
    notes = check_validation(given, checkpoint, files, dtype=mx.float32)
    assert notes == [
        "validation.stg_blocks: [3] of 6 blocks stand for [28] of 48",
        "validation.samples.0.conditions.0.audio: short.wav lasts 0.10 s, the clip 0.38 s: "
        "silence follows",
    ]


def test_text_encoder_that_is_not_there(files, checkpoint, tmp_path):
    named = config(samples=sample(), model={"text_encoder_path": "gone"})
    with pytest.raises(UserError, match=r"^model\.text_encoder_path gone: there is no such folder"):
        check_validation(named, checkpoint, files, dtype=mx.float32)
    alone = ModelFiles(folder_place(tmp_path), apart=files.checkpoint)
    with pytest.raises(UserError, match=r"^model\.text_encoder_path: .*no folder with a Gemma 3"):
        check_validation(config(samples=sample()), checkpoint, alone, dtype=mx.float32)
