"""Bad input to ltx-train: exit code 2, at most four lines, nothing written."""

import subprocess
import sys

import pytest

from ltx_train import cli
from tests.train.config.conftest import VALID
from tests.train.conftest import write_pair

CONFIG = ("--config", "lora.yaml")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    """A folder with a clip and a configuration in it, to work in."""
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path / "clips", "a.mp4")
    (tmp_path / "lora.yaml").write_text(VALID)
    return tmp_path


def failed(capsys, command, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        command(list(words))
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) <= 4
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "models/ltx-2.3-22b-dev.safetensors: no such file"),
        (["--config", "gone.yaml"], "--config gone.yaml: No such file"),
        (["--config", "clips"], "--config clips: Is a directory"),
        (["--config", "clips/a.mp4"], "clips/a.mp4: not YAML"),
        ([*CONFIG], "data.preprocessed_data_root data: it has no folder latents"),
        ([*CONFIG, "lora.rnak=4"], "lora.rnak: unknown key; did you mean 'rank'?"),
        ([*CONFIG, "lora.rank=x"], "lora.rank: Input should be a valid integer"),
        ([*CONFIG, "steps"], "'steps': section.key=value is wanted"),
        ([*CONFIG, "model.model_path=gone"], "gone: "),
        ([*CONFIG, "--stepz", "4"], "unrecognized arguments: --stepz; did you mean --steps?"),
        ([*CONFIG, "--steps", "0"], "optimization.steps: Input should be greater than or equal to"),
        ([*CONFIG, "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        ([*CONFIG, "--strategy", "t2v"], "argument --strategy: invalid choice: 't2v'"),
        ([*CONFIG, "--pipeline", "hq"], "argument --pipeline: invalid choice: 'hq'"),
        ([*CONFIG, "--hub-push"], "hub.hub_model_id: is required to push to the hub"),
        ([*CONFIG, "--validation-prompts", "@gone"], "--validation-prompts gone: no such file"),
        (
            [*CONFIG, "--strategy", "video_to_video", "--training-mode", "full"],
            "model.training_mode: video_to_video trains a LoRA, not full weights",
        ),
        (
            [*CONFIG, "data.preprocessed_data_root=null"],
            "data.preprocessed_data_root: is required; only --debug trains on random latents",
        ),
        ([*CONFIG, "acceleration.quantization=int3"], "acceleration.quantization: Input should be"),
        (
            [*CONFIG, "lora.rank=1", "seed=-1", "wandb.enable=true", "hub.x=1", "lora.alpha=0"],
            "... and 3 more",
        ),
        (
            [*CONFIG, "validation.samples.0.conditions=[{type: first_frame}]"],
            "validation.samples.0.prompt: is required\n"
            "validation.samples.0.conditions.0.image_or_video: is required",
        ),
        (
            [*CONFIG, "training_strategy.audio.conditions=[{type: first_frame}]"],
            "training_strategy.audio.conditions.0: sound takes no first_frame",
        ),
    ],
)
def test_bad_input_to_train(folder, capsys, words, said):
    before = sorted(folder.rglob("*"))
    message = failed(capsys, cli.main, *words)
    assert message.startswith("ltx-train: ")
    assert said in message
    assert sorted(folder.rglob("*")) == before


def test_what_is_not_as_in_the_file_is_said(folder, capsys):
    words = ["model.model_path=gone", "optimization.optimizer_type=adamw8bit"]
    lines = failed(capsys, cli.main, *CONFIG, *words).splitlines()
    assert lines[0] == (
        "optimization.optimizer_type: adamw8bit -> AdamW in float32: 8-bit states need CUDA"
    )
    assert lines[1].startswith("ltx-train: ")


def test_debug_shows_where_an_error_came_from(folder, capsys):
    with pytest.raises(SystemExit):
        cli.main([*CONFIG, "seed=-1", "--debug"])
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("ltx-train: lora.yaml: seed: Input should be")


@pytest.mark.parametrize("module", ["ltx_train.cli", "ltx_train.precompute.cli"])
def test_help_imports_nothing_heavy(module):
    heavy = ["mlx", "mlx.core", "av", "transformers", "numpy", "pydantic", "rich", "yaml"]
    code = (
        "import sys\n"
        f"from {module} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
