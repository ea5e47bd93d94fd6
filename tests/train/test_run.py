import json
from pathlib import Path

import mlx.core as mx
import pytest
import yaml

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.files import read_lora
from ltx_models.weights import TensorFile
from ltx_train.config import TrainConfig, read_config
from ltx_train.run import train_lora
from ltx_train.trainer import StepMetrics
from tests.train.config.conftest import VALID


@pytest.fixture
def configured(data, tmp_path):
    """The configuration of a short run into ``out``, with some values put over it."""
    path = tmp_path / "lora.yaml"
    path.write_text(VALID)

    def configured(*overrides: str) -> TrainConfig:
        return read_config(
            path,
            [
                "optimization.steps=3",
                f"data.preprocessed_data_root={data}",
                f"output_dir={tmp_path / 'out'}",
                *overrides,
            ],
        )

    return configured


def train(config: TrainConfig):
    return train_lora(config, report=lambda stage, done, total: None)


def test_what_a_run_leaves(configured):
    config = configured("lora.rank=4", "lora.alpha=8")
    made = train(config)
    out = config.output
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "checkpoints/lora_weights_step_00003.safetensors",
        "metrics.jsonl",
        "training_config.yaml",
    ]
    assert yaml.safe_load((out / "training_config.yaml").read_text())["lora"]["rank"] == 4
    assert read_config(out / "training_config.yaml") == config
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["loss"] == made.loss
    assert lines[0].keys() == set(StepMetrics._fields)

    file = read_lora(made.adapter)
    assert len(file.entries) == made.num_modules == 6 * 2 * 4  # attn1 and attn2 of the picture
    tensors = TensorFile(made.adapter)
    about = tensors.metadata
    assert (about["rank"], about["alpha"]) == ("4", "8")
    assert (about["base_model_version"], about["steps"]) == ("2.3.0", "3")
    for key, value in tensors.tensors("", tensors.infos).items():
        assert value.dtype == mx.float32
        assert 0 < mx.abs(value).max() < 10, key


def test_the_seed_decides_the_run(configured, tmp_path):
    def run(name: str, seed: int) -> tuple[bytes, list[float]]:
        made = train(configured(f"output_dir={tmp_path / name}", f"seed={seed}"))
        log = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return made.adapter.read_bytes(), [json.loads(line)["loss"] for line in log]

    assert run("one", 1) == run("two", 1)
    assert run("three", 2)[1] != run("one-again", 1)[1]


def test_a_batch_of_two(configured):
    assert train(configured("optimization.batch_size=2")).loss > 0


def test_a_run_is_not_written_over(configured):
    train(configured("optimization.steps=1"))
    with pytest.raises(UserError, match="there is a run in it already; name another folder"):
        train(configured())


@pytest.fixture
def other_data(data, tmp_path):
    """The data with a change of one file's tensors and metadata."""

    def write(name: str, *, tensors=None, metadata=None) -> Path:
        for path in data.rglob("*.safetensors"):
            copy = tmp_path / "other" / path.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        path = tmp_path / "other" / f"{name}.safetensors"
        found, about = mx.load(str(path), return_metadata=True)
        write_tensors(path, {**found, **(tensors or {})}, {**about, **(metadata or {})})
        return tmp_path / "other"

    return write


def test_data_of_another_model(configured, other_data):
    def said(*args, **changes) -> str:
        root = other_data(*args, **changes)
        with pytest.raises(UserError) as error:
            train(configured(f"data.preprocessed_data_root={root}"))
        return str(error.value)

    version = {"model_version": "2.0"}
    assert "a.safetensors: made for model version 2.0, but" in said("latents/a", metadata=version)
    assert "b.safetensors: made for model" in said("conditions/sub/b", metadata=version)
    wide = {"latents": mx.zeros((128, 2, 1, 2))}
    assert "latents of 128 channels; ltx-2.3-tiny.safetensors takes 16" in said(
        "latents/a", tensors=wide
    )
    count = mx.load(str(other_data("conditions/a") / "conditions/a.safetensors"))
    features = mx.zeros((count["prompt_attention_mask"].size, 7))
    assert "text features of (7, 32) channels; ltx-2.3-tiny.safetensors takes (64, 32)" in said(
        "conditions/a", tensors={"video_prompt_embeds": features}
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.model_path=gone", "gone: "),
        ("data.preprocessed_data_root=gone", "data.preprocessed_data_root gone: it has no folder"),
        ("training_strategy.video.latents_dir=l", "it has no folder l."),
        ("optimization.batch_size=3", "optimization.batch_size 3: there are 2 samples"),
        ("lora.target_modules=[to_x]", "lora.target_modules: no linear layer is named 'to_x'"),
        ("lora.target_modules=[audio_attn1]", "lora.target_modules: no linear layer is named"),
        ("output_dir=/dev/null/out", "output_dir /dev/null/out: /dev/null is no folder"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(configured, tmp_path, override, said):
    with pytest.raises(UserError) as error:
        train(configured(override))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_ends_the_run_with_its_log(configured, other_data):
    root = other_data("latents/a", tensors={"latents": mx.full((16, 2, 1, 2), 1e30)})
    with pytest.raises(
        UserError, match="step 3: for 3 steps in a row loss or gradient are not fin"
    ):
        train(configured(f"data.preprocessed_data_root={root}", "optimization.batch_size=2"))
    lines = (configured().output / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["skipped_in_a_row"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[0])["grad_norm"] is None
    assert not (configured().output / "checkpoints").exists()
