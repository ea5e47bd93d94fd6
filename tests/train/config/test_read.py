import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.errors import UserError
from ltx_train.config import read_config, read_run, shipped_configs
from tests.train.config.conftest import VALID


def test_overrides_go_over_the_file(read):
    config = read("lora.rank=4", "optimization.learning_rate=1e-4", "seed=7", "output_dir=o").config
    assert (config.lora.rank, config.optimization.learning_rate) == (4, 1e-4)
    assert (config.seed, config.output) == (7, Path("o"))
    nested = read("training_strategy.video.latents_dir=l", "lora.target_modules=[to_q]").config
    assert nested.training_strategy.video.latents_dir == "l"
    assert nested.lora.target_modules == ("to_q",)


def test_overrides_reach_into_lists_and_make_what_is_new(read):
    config = read(
        "validation.samples.0.prompt=waves",
        "validation.samples.0.conditions=[{type: first_frame, image_or_video: a.png}]",
        "validation.samples.1={prompt: rain, seed: 0}",
        "validation.samples.1.prompt=hail",
        "lora.target_modules=[to_q, to_k]",
        "lora.target_modules.1=to_v",
        "validation.interval=null",
        "training_strategy.audio.loss_weight=0.5",
    ).config
    assert [sample.prompt for sample in config.validation.samples] == ["waves", "hail"]
    assert config.validation.samples[0].conditions[0].image_or_video == "a.png"
    assert config.validation.samples[1].seed == 0
    assert config.lora.target_modules == ("to_q", "to_v")
    assert config.validation.interval is None
    assert config.training_strategy.audio.loss_weight == 0.5


def test_an_override_changes_one_place_of_an_anchor(read):
    text = VALID + "hub: &h {push_to_hub: false}\nwandb: {tags: &t [a]}\n"
    text += "validation: {samples: [&s {prompt: a}, *s]}\n"
    samples = read("validation.samples.1.prompt=b", text=text).config.validation.samples
    assert [sample.prompt for sample in samples] == ["a", "b"]


def test_numbers_without_a_dot_are_numbers(read):
    """YAML 1.1 takes 1e-4 for text."""
    text = VALID.replace("steps: 20", "steps: 20, learning_rate: 1e-4")
    assert read(text=text).config.optimization.learning_rate == 1e-4


def test_what_is_written_down_is_read_again(read, tmp_path):
    overrides = ["acceleration.mixed_precision_mode='no'", "acceleration.quantization=mxfp8"]
    config = read(*overrides, "training_strategy.name=text_to_video", text=LEGACY).config
    path = tmp_path / "training_config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    assert read_run(path) == (config, [])


LEGACY = VALID.replace("{name: flexible, video: {}}", "{name: text_to_video}")
BAD_OVERRIDES = [
    ("seed", "'seed': section.key=value is wanted"),
    ("lora..rank=4", "'lora..rank=4': section.key=value is wanted"),
    ("seed.x=4", "'seed.x=4': seed has no keys of its own"),
    ("seed=[", "'seed=[': not YAML"),
    (
        "lora.target_modules.x=a",
        "lora.target_modules is a list of 1: a number from 0 to 1, not 'x'",
    ),
    ("lora.target_modules.2=a", "a number from 0 to 1, not '2', is wanted"),
]


@pytest.mark.parametrize(("override", "said"), BAD_OVERRIDES)
def test_bad_overrides(read, override, said):
    text = VALID.replace("alpha: 8", "alpha: 8, target_modules: [to_q]") + "seed: 1\n"
    with pytest.raises(UserError) as error:
        read(override, text=text)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "not YAML"),
        ("lora: {rank: 1}\nlora: {rank: 2}", "the key 'lora' is there twice"),
        ("just words", "sections (model:, lora:, data:, ...) are wanted"),
        ("", "sections (model:"),
        ("seed: 1", "model: is required\n"),
        ("model: 3\nlora: []\ndata: x", "model: Input should be an object, got 3\nlora: Input"),
        (VALID.replace("{steps: 20, batch_size: 1}", ""), "optimization: Input should be an obj"),
    ],
)
def test_bad_files(read, text, said):
    with pytest.raises(UserError) as error:
        read(text=text)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_all_faults_are_said_at_once(read):
    with pytest.raises(UserError) as error:
        read("lora.rnak=4", "optimization.optimizer_type=sgd", "seed=-1")
    lines = str(error.value).split("lora.yaml: ")[1].splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "optimization.optimizer_type",
        "seed",
        "lora.rnak",
    ]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"gone\.yaml: No such file"):
        read_config(tmp_path / "gone.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not YAML"):
        read_config(tmp_path / "b.yaml")


def test_random_latents_only_to_find_faults(read):
    null = "data.preprocessed_data_root=null"
    with pytest.raises(UserError, match=r"data\.preprocessed_data_root: is required; only --debug"):
        read(null)
    assert read(null, debug=True).config.data.preprocessed_data_root is None
    assert read_run(None, debug=True).config.data.preprocessed_data_root is None
    assert read_run(None).config.data.preprocessed_data_root == "data"
    given = read_run(None, ["data.preprocessed_data_root=d"], debug=True).config
    assert given.data_root == Path("d")


JUNK = [None, -1, 2.5, True, "x", "", [], {}, [1], [{}], {"a": 1}, {"type": 3}, 10**400, [[None]]]


def places(value, above=()):
    """The path of each value in a tree of them."""
    yield above
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from places(each, (*above, key))


WHOLE = yaml.safe_load((shipped_configs() / "av2av_ic_lora.yaml").read_text()) | {
    "validation": {"prompts": ["a"], "images": ["i"], "guidance_scale": 3, "stg_mode": "stg_v"},
    "acceleration": {"quantization": "int8-quanto", "mixed_precision_mode": "fp16"},
}


@given(place=st.sampled_from(sorted(places(WHOLE), key=str)), junk=st.sampled_from(JUNK))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_anywhere_is_read_or_named(tmp_path_factory, place, junk):
    tree = {"all": copy.deepcopy(WHOLE)}
    here = tree
    *above, last = ("all", *place)
    for key in above:
        here = here[key]
    here[last] = junk
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    path.write_text(yaml.safe_dump(tree["all"]))
    said = ""
    try:
        read_config(path)
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) <= 3
