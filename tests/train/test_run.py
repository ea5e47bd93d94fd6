"""Runs on the stand-in, in this process: what they leave, and going on after a stop."""

import json
import math
import os
import resource
import signal
from pathlib import Path
from statistics import fmean

import mlx.core as mx
import pytest

from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.lora.files import read_lora
from ltx_models.weights import TensorFile
from ltx_train.config import read_config
from ltx_train.run import Finished, train_lora
from ltx_train.runs.alone import alone_in
from tests.train.config.conftest import VALID
from tests.train.conftest import rows, train


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_a_run_leaves(configured, finished):
    assert files(finished) == [
        "checkpoints/lora_weights_step_00003.safetensors",
        "checkpoints/state_00003/run.json",
        "checkpoints/state_00003/state.safetensors",
        "checkpoints/state_00003/training_config.yaml",
        "metrics.jsonl",
        "report.html",
        "training_config.yaml",
    ]
    found = rows(finished)
    assert [(row["kind"], row["step"]) for row in found] == [("step", n) for n in (1, 2, 3)]
    path = finished / "checkpoints/lora_weights_step_00003.safetensors"
    assert len(read_lora(path).entries) == 6 * 2 * 4  # attn1 and attn2 of the picture
    tensors = TensorFile(path)
    about = tensors.metadata
    assert (about["rank"], about["alpha"], about["steps"]) == ("8", "8", "3")
    for key, value in tensors.tensors("", tensors.infos).items():
        assert 0 < mx.abs(value).max() < 10, key


def test_a_configuration_is_read_as_it_was(configured):
    config = configured("optimization.steps=1")
    train(config)
    assert read_config(config.output / "training_config.yaml") == config


def test_the_seed_decides_the_run(configured, finished_run):
    again = configured()
    made = train(again)
    path = finished_run / "checkpoints" / made.adapter.name
    assert (made.adapter.read_bytes(), rows(again.output)) == (
        path.read_bytes(),
        rows(finished_run),
    )
    other = configured("seed=1", "optimization.steps=1", f"output_dir={again.output}-1")
    train(other)
    assert rows(other.output)[0]["loss"] != rows(finished_run)[0]["loss"]


def test_a_run_is_not_written_over(configured, finished):
    with pytest.raises(UserError, match=r"there is a run in it already, saved at step 3\.\n--res"):
        train(configured())


def test_a_run_that_saved_nothing_is_begun_anew(configured):
    config = configured("optimization.steps=1")
    config.output.mkdir()
    (config.output / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n{"kin')
    train(config)
    assert len(rows(config.output)) == 1


def test_a_dry_run_writes_nothing(configured, tmp_path):
    before, said = files(tmp_path), []
    quiet = {"report": lambda *_: None, "say": said.append}
    assert train_lora(configured(), dry_run=True, **quiet) is None
    assert files(tmp_path) == before
    assert "  24 transformer_blocks.*.attn1: to_k, to_out.0, to_q, to_v" in said
    said.clear()
    train_lora(configured(), dry_run=True, debug=True, **quiet)
    assert "  transformer_blocks.5.attn2.to_v" in said


def test_random_latents_where_there_are_no_data(configured, tmp_path):
    said: list[str] = []
    text = configured().model_dump(mode="json")
    text["data"]["preprocessed_data_root"] = None
    text["training_strategy"]["video"]["conditions"] = [
        {"type": "reference", "latents_dir": "references"},
        {"type": "mask", "mask_dir": "masks"},
    ]
    text["optimization"]["steps"] = 1
    config = type(configured()).model_validate_json(json.dumps(text))
    train(config, said=said, debug=True)
    note = "data.preprocessed_data_root is null: random latents, from which nothing is learnt"
    assert note in said
    assert sum(line.startswith("step 1/1: loss") for line in said) == 1


class StopAt:
    """Reports that send this process a signal as a step is done."""

    def __init__(self, stage: str, done: int):
        self.at = stage, done

    def __call__(self, stage: str, done: int, total: int) -> None:
        if (stage, done) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


EVERYTHING = (
    "optimization.steps=3",
    "optimization.gradient_accumulation_steps=2",
    "optimization.ema_decay=0.9",
    "optimization.enable_gradient_checkpointing=true",
    "optimization.warmup_steps=2",
    "lora.dropout=0.2",
    "training_strategy.caption_dropout=0.3",
    "checkpoints.interval=3",
    "validation.holdout=1",
    "validation.interval=2",
)


def test_stopped_and_taken_up_equals_not_stopped(configured, tmp_path):
    whole = configured(*EVERYTHING, f"output_dir={tmp_path / 'whole/out'}")
    train(whole)
    broken = configured(*EVERYTHING, f"output_dir={tmp_path / 'broken/out'}")
    with pytest.raises(KeyboardInterrupt) as stop:
        train(broken, report=StopAt("training", 2))
    assert stop.value.args == (signal.SIGTERM,)
    assert stop.value.__notes__ == [f"saved at step 2 in {broken.output}; --resume goes on"]
    assert saved(broken.output) == ["lora_weights_step_00002.safetensors", "state_00002"]
    said: list[str] = []
    train(broken, said=said, resume=True)
    assert rows(broken.output) == rows(whole.output)
    for name in files(whole.output / "checkpoints"):
        if name.endswith(".safetensors"):
            one, other = (out.output / "checkpoints" / name for out in (whole, broken))
            assert one.read_bytes() == other.read_bytes(), name
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stop_before_the_first_step_comes_after_it(configured):
    config = configured("validation.holdout=1")
    with pytest.raises(KeyboardInterrupt):
        train(config, report=StopAt("training", 0))
    assert saved(config.output) == ["lora_weights_step_00001.safetensors", "state_00001"]


def test_a_finished_run_is_finished_again(configured, finished):
    before = files(finished)
    losses = [row["loss"] for row in rows(finished) if row["kind"] == "step"]
    made = train(configured(), resume=True)
    assert made.adapter == finished / "checkpoints/lora_weights_step_00003.safetensors"
    assert (made.num_modules, made.loss) == (48, fmean(losses))
    assert files(finished) == before


def test_an_adapter_that_was_removed_is_written_again(configured, finished):
    path = finished / "checkpoints/lora_weights_step_00003.safetensors"
    before = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match="there is a run in it already, saved at step 3"):
        train(configured())
    (finished / "metrics.jsonl").unlink()
    made = train(configured(), resume=True)
    assert (made.adapter, made.adapter.read_bytes()) == (path, before)
    assert math.isnan(made.loss)


def test_one_run_at_a_time(configured):
    config = configured()
    with alone_in(config.output), pytest.raises(UserError, match="another run writes to it"):
        train(config)
    assert files(config.output) == []


def test_a_disk_without_room_for_the_state_leaves_the_one_before(configured):
    config = configured("checkpoints.interval=1", "checkpoints.keep_last_n=2")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("training", 2):
            size = (config.output / "checkpoints" / saved(config.output)[0]).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, before[1]))

    try:
        with pytest.raises(UserError, match="cannot be written") as error:
            train(config, report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.__notes__ == [f"saved at step 1 in {config.output}; --resume goes on"]
    assert "state_00002" not in saved(config.output)
    train(config, resume=True)
    assert [row["step"] for row in rows(config.output)] == [1, 2, 3]


def test_the_report_comes_between_saves(configured):
    config, seen = configured("optimization.steps=11"), []

    def look(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("training", 11):
            seen.append((config.output / "report.html").read_text())

    train(config, report=look)
    assert "10 of 11" in seen[0]


def test_a_target_without_gradient_leaves_nothing_saved(configured):
    """So that the run can be started again as soon as the target is gone."""
    text = configured().model_dump(mode="json")
    text["data"]["preprocessed_data_root"] = None
    text["training_strategy"]["audio"] = {"is_generated": False}
    text["lora"]["target_modules"] = ["attn1.to_q", "audio_proj_out"]
    config = type(configured()).model_validate_json(json.dumps(text))
    with pytest.raises(UserError, match="'audio_proj_out' gets no gradient") as error:
        train(config, debug=True)
    assert not hasattr(error.value, "__notes__")
    assert not (config.output / "checkpoints").exists()


def test_what_is_kept(configured):
    config = configured("checkpoints.interval=1", "checkpoints.keep_last_n=2")
    train(config)
    assert saved(config.output) == [
        "lora_weights_step_00002.safetensors",
        "lora_weights_step_00003.safetensors",
        "state_00002",
        "state_00003",
    ]


def test_the_best_is_kept_besides(configured):
    best = ("checkpoints.best=true", "validation.holdout=1", "validation.interval=1")
    rate = ("optimization.learning_rate=0.3", "optimization.steps=3")
    config = configured(*best, *rate)
    train(config)
    rows_ = [row for row in rows(config.output) if row["kind"] == "validation"]
    lowest = min(rows_[1:], key=lambda row: row["loss"])["step"]
    steps = sorted({lowest, 3})
    assert saved(config.output) == [
        *(f"lora_weights_step_{step:05}.safetensors" for step in steps),
        *(f"state_{step:05}" for step in steps),
    ]


def test_states_that_are_not_wanted(configured, tmp_path):
    config = configured("checkpoints.save_training_state=off", "optimization.steps=1")
    with pytest.raises(KeyboardInterrupt) as stop:
        train(config, report=StopAt("training", 1))
    assert stop.value.__notes__ == [f"saved at step 1 in {config.output}"]
    assert saved(config.output) == ["lora_weights_step_00001.safetensors"]
    with pytest.raises(UserError, match=r"has adapters but no state.*\nStart a run in another fo"):
        train(config, resume=True)


def test_a_minimal_state_has_the_weights_alone(configured):
    minimal = "checkpoints.save_training_state=minimal"
    train(configured(minimal, "optimization.steps=1"))
    config = configured(minimal, "optimization.steps=2")
    keys = TensorFile(config.output / "checkpoints/state_00001/state.safetensors").infos
    assert all(key.startswith("parameters.") for key in keys)
    train(config, resume=True, force=True)
    assert [row["step"] for row in rows(config.output)] == [1, 2]


def test_to_start_from_an_adapter(configured, finished, tmp_path):
    """With the state beside it a run goes on from there, else from its weights at step 0."""
    load = f"model.load_checkpoint={finished}"
    said: list[str] = []
    more = configured(load, "optimization.steps=4", f"output_dir={tmp_path / 'more'}")
    train(more, said=said)
    assert [row["step"] for row in rows(more.output)] == [4]
    assert any("state_00003, from step 3; checkpoints.no_resume=true" in line for line in said)
    assert "changed since step 3: optimization.steps: 3 -> 4" in said
    same = configured(load, f"output_dir={tmp_path / 'same'}")
    made = train(same)
    assert saved(same.output) == saved(finished)
    one, other = (
        mx.load(str(f / "checkpoints" / made.adapter.name)) for f in (finished, same.output)
    )
    assert all(mx.array_equal(value, other[key]) for key, value in one.items())
    one = ("checkpoints.no_resume=true", "optimization.steps=1")
    anew = configured(load, *one, f"output_dir={tmp_path / 'anew'}")
    train(anew, said=said)
    (row,) = rows(anew.output)
    assert row["step"] == 1
    assert row["adapter_norm"] > rows(finished)[-1]["adapter_norm"] / 2
    with pytest.raises(UserError, match=r"optimization\.steps 2: .*state_00003 has more behind it"):
        train(configured(load, "optimization.steps=2", f"output_dir={tmp_path / 'less'}"))


def test_a_run_from_an_adapter_that_saved_nothing_starts_from_it_again(
    configured, finished, tmp_path
):
    load = f"model.load_checkpoint={finished}"
    config = configured(load, f"output_dir={tmp_path / 'out2'}", "optimization.steps=4")
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2/training_config.yaml").touch()
    said: list[str] = []
    train(config, said=said, resume=True)
    assert [row["step"] for row in rows(config.output)] == [4]
    assert "--resume: no state was saved yet; the run starts anew" in said


FULL = ("lora=null", "model.training_mode=full", "optimization.learning_rate=1e-5")


@pytest.fixture(scope="module")
def whole_model(data, tmp_path_factory) -> Finished:
    """A run of one step over all weights."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "lora.yaml").write_text(VALID)
    words = (f"data.preprocessed_data_root={data}", f"output_dir={folder / 'out'}")
    return train(read_config(folder / "lora.yaml", [*FULL, "optimization.steps=1", *words]))


def test_what_a_whole_model_has_besides_stays(configured, whole_model, tmp_path):
    """The sound of the weights that a run of the picture starts from, after a stop too."""
    key = "model.diffusion_model.audio_proj_out.bias"
    tensors, about = mx.load(str(whole_model.adapter), return_metadata=True)
    tensors[key] = tensors[key] + 1
    write_tensors(tmp_path / "start.safetensors", tensors, about)
    load = (f"model.load_checkpoint={tmp_path / 'start.safetensors'}", f"output_dir={tmp_path}/b")
    config = configured(*FULL, *load, "optimization.steps=2", "checkpoints.keep_last_n=2")
    with pytest.raises(KeyboardInterrupt):
        train(config, report=StopAt("training", 1))
    for path in (
        config.output / "checkpoints/model_weights_step_00001.safetensors",
        train(config, resume=True).adapter,
    ):
        assert mx.array_equal(mx.load(str(path))[key], tensors[key])


def test_all_weights(configured, whole_model, tmp_path):
    """A whole checkpoint, from which a further run can start."""
    assert whole_model.adapter.name == "model_weights_step_00001.safetensors"
    assert whole_model.num_modules == 0
    load = f"model.load_checkpoint={whole_model.adapter.parent}"
    further = configured(*FULL, load, f"output_dir={tmp_path / 'more'}", "optimization.steps=2")
    train(further)
    assert [row["step"] for row in rows(further.output)] == [2]


def test_what_has_changed_is_listed(configured, finished):
    with pytest.raises(UserError) as error:
        train(configured("optimization.learning_rate=1e-3", "seed=1", "lora.rank=2"), resume=True)
    assert str(error.value).splitlines() == [
        "--resume: since step 3 this has changed:",
        "seed: 42 -> 1",
        "... and 2 more",
        "--force goes on with it; otherwise put it back",
    ]
    with pytest.raises(UserError, match="what it trained is not what this run trains:\nparam"):
        train(configured("lora.rank=2"), resume=True, force=True)
    said: list[str] = []
    train(configured("optimization.steps=4"), resume=True, force=True, said=said)
    assert "changed since step 3: optimization.steps: 3 -> 4" in said
    kept = configured("optimization.steps=4", "checkpoints.keep_last_n=2")
    train(kept, resume=True, said=said)
    assert "changed since step 4: checkpoints.keep_last_n: 1 -> 2" in said
