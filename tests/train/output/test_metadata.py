"""What a file says of itself, and what is found out about a run."""

import shutil

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.files import read_lora
from ltx_train.data.batches import data_folders
from ltx_train.data.dataset import open_dataset
from ltx_train.data.geometry import Factors
from ltx_train.output.facts import data_hash, run_facts
from ltx_train.output.metadata import config_hash, file_metadata
from tests.train.data.sets import CONDITIONS, put

STREAMS = """\
model: {model_path: tiny}
lora: {rank: 8, alpha: 4, target_modules: [to_q, to_k]}
training_strategy:
  name: flexible
  video: {conditions: [{type: first_frame, probability: 0.5}, {type: prefix, temporal_boundary: 1}]}
  audio: {is_generated: false}
optimization: {steps: 20, batch_size: 1}
data: {preprocessed_data_root: data}
"""


def test_what_an_adapter_says(configured, gathered):
    facts = gathered()
    about = file_metadata(configured(text=STREAMS), facts, step=20)
    assert about.pop("trainer").startswith("ltx-mlx ")
    assert about.pop("config_hash") == config_hash(configured(text=STREAMS))
    assert about == {
        "format": "pt",
        "steps": "20",
        "rank": "8",
        "alpha": "4",
        "target_modules": "to_q,to_k",
        "base_model_version": "2.3.0",
        "base_model_file": "ltx-2.3-tiny.safetensors",
        "trigger": "ohwx",
        "dataset_hash": facts.data_hash,
        "trained_streams": "video",
        "given_streams": "audio",
        "trained_conditions": "video first_frame 0.5, video prefix 1",
        "ss_base_model_version": "2.3.0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "8",
        "ss_network_alpha": "8",
        "ss_steps": "20",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "LTX2/lora",
        "modelspec.implementation": "https://github.com/Lightricks/LTX-2",
        "modelspec.title": "out",
        "modelspec.description": "LoRA of ltx-2.3-tiny.safetensors, step 20",
        "modelspec.trigger_phrase": "ohwx",
        "modelspec.license": "LTX-2 Community License",
        "modelspec.resolution": "96x32",
    }
    distilled = facts._replace(variant="distilled")
    assert file_metadata(configured(), distilled, step=1)["base_model_variant"] == "distilled"


def test_factors_of_references_come_back(configured, gathered, tmp_path):
    """Those that are 1 are not written (spec/training.md 1.7)."""
    tensors = {f"a.lora_{half}.weight": mx.ones((4, 4)) for half in "AB"}
    keys = ("downscale", "spatial_scale", "temporal_scale")
    for factors, written in [((1, 1), ""), ((2, 1), "ds"), ((1, 2), "t"), ((4, 2), "dst")]:
        facts = gathered()._replace(reference=Factors(*factors))
        about = file_metadata(configured(), facts, step=1)
        there = [key for key in keys if f"reference_{key}_factor" in about]
        assert [key[0] for key in there] == list(written)
        write_tensors(tmp_path / "a.safetensors", tensors, about)
        file = read_lora(tmp_path / "a.safetensors")
        found = (file.reference_downscale_factor, file.reference_temporal_scale_factor)
        assert found == factors
        assert file.metadata["base_model_version"] == "2.3.0"


def test_the_hash_of_a_configuration_is_of_what_decides_the_result(configured):
    same = config_hash(configured())
    for override in ("output_dir=there", "wandb.enabled=true", "hub.hub_model_id=me/it"):
        assert config_hash(configured(override)) == same
    for override in ("seed=1", "lora.rank=4", "data.preprocessed_data_root=other"):
        assert config_hash(configured(override)) != same


def opened(root, config):
    return open_dataset(root, data_folders(config.training_strategy))


def test_the_hash_of_data_is_of_what_is_in_them(samples, configured, tmp_path):
    def found(root) -> str:
        return data_hash(opened(root, configured()).samples)

    first = found(samples)
    shutil.copytree(samples, tmp_path / "there")
    assert found(tmp_path / "there") == first
    put(samples / "conditions/b.safetensors", CONDITIONS, caption="another boat")
    changed = found(samples)
    shutil.copy(samples / "latents/a.safetensors", samples / "latents/c.safetensors")
    shutil.copy(samples / "conditions/a.safetensors", samples / "conditions/c.safetensors")
    assert len({first, changed, found(samples)}) == 3


def test_what_is_found_out(samples, configured, gathered, checkpoint):
    facts = gathered()
    assert (facts.trigger, facts.num_with_trigger) == ("ohwx", 2)
    assert facts.sizes == {"96x32x9": 2}
    assert facts.captions == [("a", "ohwx, a boat a"), ("b", "ohwx, a boat b")]
    assert (facts.reference, facts.held_out, facts.variant) == ((1, 1), [], None)
    named = gathered("data.trigger=boat b")
    assert (named.trigger, named.num_with_trigger) == ("boat b", 1)
    dataset = opened(samples, configured())
    first, held = dataset.samples
    apart = run_facts(configured(), checkpoint, dataset._replace(samples=[first]), held=[held])
    assert (len(apart.captions), apart.held_out) == (2, ["b"])
    assert apart.data_hash == data_hash([first]) != facts.data_hash
    put(samples / "conditions/b.safetensors", CONDITIONS, caption="a boat")
    assert gathered().trigger is None


def test_references_of_two_factors(samples, configured, checkpoint):
    dataset = opened(samples, configured())
    dataset = dataset._replace(factors={"near": Factors(1, 1), "far": Factors(2, 1)})
    with pytest.raises(UserError) as error:
        run_facts(configured(), checkpoint, dataset)
    assert str(error.value) == (
        "training_strategy: the references are smaller by two factors: near 1 in space and 1 in "
        "time, far 2 in space and 1 in time.\n"
        "An adapter is used with one: precompute them alike"
    )


def test_the_size_of_sound_alone(samples, configured, gathered):
    sound = "training_strategy={name: flexible, audio: {}}"
    for name in ("a", "b"):
        latents = {"latents": np.ones((8, 5, 16), np.float32)}
        put(samples / f"audio_latents/{name}.safetensors", latents, num_time_steps=5)
    facts = gathered(sound)
    assert facts.sizes == {"sound of 5 latents": 2}
    assert "modelspec.resolution" not in file_metadata(configured(sound), facts, step=1)


def test_an_adapter_says_where_it_learnt_to_hear_a_reference(configured, gathered):
    audio = "audio: {conditions: [{type: reference, latents_dir: refs, probability: 1.0}]}"
    text = STREAMS.replace("audio: {is_generated: false}", audio)
    about = file_metadata(configured(text=text), gathered(), step=20)
    assert about["reference_audio_positions"] == "clip"
