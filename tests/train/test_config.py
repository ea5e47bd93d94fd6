from pathlib import Path

import pytest

from ltx_models.errors import UserError
from ltx_train.config import read_config

VALID = """\
model: {model_path: tiny}
lora: {rank: 8, alpha: 8}
training_strategy: {name: flexible, video: {}}
optimization: {steps: 20, batch_size: 1}
data: {preprocessed_data_root: data}
"""
SHIPPED = sorted(Path("configs/train").glob("*.yaml"))


@pytest.fixture
def read(tmp_path):
    def read(*overrides: str, text: str = VALID):
        path = tmp_path / "lora.yaml"
        path.write_text(text)
        return read_config(path, overrides)

    return read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_are_valid(path):
    assert len(path.read_text().splitlines()) <= 40
    assert read_config(path).training_strategy.name == "flexible"


def test_shipped_configs_are_found():
    assert [path.name for path in SHIPPED] == ["t2v_lora.yaml"]


def test_defaults_are_the_public_trainers(read):
    config = read()
    assert (config.seed, config.output_dir) == (42, "outputs")
    assert config.lora.target_modules == ("to_k", "to_q", "to_v", "to_out.0")
    optimization = config.optimization
    assert (optimization.learning_rate, optimization.max_grad_norm) == (5e-4, 1.0)
    assert optimization.scheduler_type == "linear"
    assert config.flow_matching.timestep_sampling_mode == "shifted_logit_normal"


def test_overrides_go_over_the_file(read):
    config = read("lora.rank=4", "optimization.learning_rate=1e-4", "seed=7", "output_dir=o")
    assert (config.lora.rank, config.optimization.learning_rate) == (4, 1e-4)
    assert (config.seed, config.output) == (7, Path("o"))
    nested = read("training_strategy.video.latents_dir=l", "lora.target_modules=[to_q]")
    assert nested.training_strategy.video.latents_dir == "l"
    assert nested.lora.target_modules == ("to_q",)


def test_numbers_without_a_dot_are_numbers(read):
    """YAML 1.1 takes 1e-4 for text."""
    text = VALID.replace("steps: 20", "steps: 20, learning_rate: 1e-4")
    assert read(text=text).optimization.learning_rate == 1e-4


BAD = [
    ("lora.rnak=4", "lora.rnak: unknown key; did you mean 'rank'?"),
    ("lora.dropout=0.1", "lora.dropout: unknown key; known are rank, alpha, target_modules"),
    ("optimisation.steps=4", "optimisation: unknown key; did you mean 'optimization'?"),
    ("training_strategy.audio={}", "training_strategy.audio: unknown key"),
    ("lora.rank=1", "lora.rank: Input should be greater than or equal to 2, got 1"),
    ("lora.rank=8.5", "lora.rank: Input should be a valid integer"),
    ("lora.rank=true", "lora.rank: Input should be a valid integer, got True"),
    ("lora.target_modules=[]", "lora.target_modules: Tuple should have at least 1 item"),
    ("lora.target_modules=to_q", "lora.target_modules: Input should be a valid"),
    ("optimization.steps=0", "optimization.steps: Input should be greater"),
    ("optimization.learning_rate=.nan", "optimization.learning_rate: Input should be"),
    ("optimization.learning_rate=fast", "optimization.learning_rate: Input should be a valid num"),
    ("optimization.optimizer_type=adamw8bit", "optimization.optimizer_type: Input should be 'ada"),
    (
        "optimization.scheduler_params={power: 2}",
        "optimization.scheduler_params: linear has no 'power'; it has start_factor, end_factor",
    ),
    ("optimization.scheduler_params={end_factor: -1}", "they give a rate that is no number"),
    ("optimization.scheduler_type=warm", "optimization.scheduler_type: Input should be 'con"),
    (
        "flow_matching.timestep_sampling_params={mean: 1}",
        "flow_matching.timestep_sampling_params: shifted_logit_normal has no 'mean'; it has std",
    ),
    ("flow_matching.timestep_sampling_params={std: 0}", "noise levels outside [0, 1]"),
    ("training_strategy.name=text_to_video", "training_strategy.name: Input should be 'flexible'"),
    ("training_strategy.video.is_generated=false", "video.is_generated: Input should be True"),
    ("model.training_mode=full", "model.training_mode: Input should be 'lora'"),
    ("seed=-1", "seed: Input should be greater than or equal to 0"),
    ("seed", "'seed': section.key=value is wanted"),
    ("lora..rank=4", "'lora..rank=4': section.key=value is wanted"),
    ("seed.x=4", "'seed.x=4': seed has no keys of its own"),
    ("seed=[", "'seed=[': not YAML"),
]


@pytest.mark.parametrize(("override", "said"), BAD)
def test_bad_values_are_named_by_their_path(read, override, said):
    text = VALID + "seed: 1\n"
    with pytest.raises(UserError) as error:
        read(override, text=text)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "not YAML"),
        ("lora: {rank: 1}\nlora: {rank: 2}", "the key 'lora' is there twice"),
        ("just words", "sections (model:, lora:, data:, ...) are wanted"),
        ("", "sections (model:"),
        ("seed: 1", "model: is required"),
        (VALID.replace(", video: {}", ""), "training_strategy.video: is required"),
    ],
)
def test_bad_files(read, text, said):
    with pytest.raises(UserError) as error:
        read(text=text)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"gone\.yaml: No such file"):
        read_config(tmp_path / "gone.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not YAML"):
        read_config(tmp_path / "b.yaml")
