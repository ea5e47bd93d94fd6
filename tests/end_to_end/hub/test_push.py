"""An upload by the real huggingface_hub, to a server of our own: what arrives is what was made."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.hub.server import TOKEN, Hub, serving
from tests.train.conftest import write_pair
from tests.train.report.made_run import CONFIG, write_samples

ROOT = Path(__file__).parents[3]
TINY = """\
model: {model_path: tiny}
lora: {rank: 4, alpha: 4}
training_strategy: {name: flexible, video: {}}
optimization: {steps: 3, batch_size: 1}
data: {preprocessed_data_root: data, trigger: ohwx}
output_dir: out
"""
WEIGHTS = "lora_weights_step_00200.safetensors"
# A process of its own, since huggingface_hub reads its environment once.
PUSH = """
import sys
from pathlib import Path
import ltx_models
from ltx_infer.command import run_command
from ltx_train.config import read_config
from ltx_train.output.hub import push
from ltx_train.output.layout import adapter_path
from tests.train.conftest import write_pair
from tests.train.report.made_run import FACTS

config = read_config(Path(sys.argv[1]), sys.argv[2:])
run_command("ltx-train", lambda: print(
    push(config, FACTS, step=200, weights=adapter_path(config.output, 200))
))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished run's folder, its configuration beside it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "lora.yaml").write_text(CONFIG)
    write_samples(folder / "out", [0, 200])
    (folder / "out/checkpoints").mkdir()
    (folder / "out/checkpoints" / WEIGHTS).write_bytes(bytes(range(256)) * 40)
    return folder / "out"


def plain(home: Path) -> dict[str, str]:
    """Of the environment: who we are, and no other service."""
    return {
        "HF_HUB_OFFLINE": "0",  # of the machine here, not of a hub elsewhere
        "HF_HUB_DISABLE_XET": "1",  # whose server is another
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(home / "no login"),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
        "WANDB_MODE": "offline",
    }


def push(out: Path, name: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = (out.parent / "lora.yaml", f"output_dir={out}", f"hub.hub_model_id={name}")
    return subprocess.run(
        [sys.executable, "-c", PUSH, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **plain(out.parent), **env},
    )


@pytest.fixture(scope="module")
def hub():
    with serving() as hub:
        yield hub


def test_adapter_card_and_samples_arrive(out: Path, hub: Hub):
    done = push(out, "me/boats", HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{hub.address}/me/boats: step 200; it is passed on under the LTX-2 Community License "
        "Agreement\n"
    )
    files = dict(hub.repositories["me/boats"])
    card = files.pop("README.md").decode()
    assert files == {
        WEIGHTS: (out / "checkpoints" / WEIGHTS).read_bytes(),
        "samples/step_000200_1.mp4": (out / "samples/step_000200_1.mp4").read_bytes(),
        "samples/step_000200_2.mp4": (out / "samples/step_000200_2.mp4").read_bytes(),
    }
    assert hub.messages == ["Step 200"]
    front = yaml.safe_load(card.split("---\n")[1])
    assert [one["output"]["url"] for one in front["widget"]] == sorted(files)[1:]
    assert set(re.findall(r'src="([^"]*)"', card)) == set(files) - {WEIGHTS}


@pytest.mark.parametrize(
    ("name", "env", "why"),
    [
        ("me/boats", {"HF_TOKEN": ""}, "there is no token; set HF_TOKEN to one that may write"),
        (
            "me/boats",
            {"HF_TOKEN": "hf_wrong"},
            "the hub says 401; set HF_TOKEN to a token that may write there",
        ),
        ("other/x", {}, "the hub says 403; set HF_TOKEN to a token that may write there"),
        ("me/boats", {"HF_HUB_OFFLINE": "1"}, "Cannot reach "),
        ("me/no space", {}, "Repo id must use alphanumeric chars"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_uploaded_is_said_on_one_line(out: Path, hub: Hub, name, env, why):
    done = push(out, name, **{"HF_ENDPOINT": hub.address, **env})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ltx-train: hub {name}: not uploaded: {why}")
    assert done.stderr.endswith(
        f"; to try again: ltx-train --config {out}/training_config.yaml --resume --hub-push "
        f"(the run is whole in {out})\n"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_command_trains_records_and_uploads(tiny, hub: Hub, tmp_path):
    """A denied upload leaves a whole run, and the command that is named then uploads it."""
    write_pair(tmp_path / "clips", "waves.mp4", caption="ohwx, waves")
    write_pair(tmp_path / "clips", "boat.mp4", caption="ohwx, a boat")
    (tmp_path / "lora.yaml").write_text(TINY)

    def run(name: str, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **plain(tmp_path), "HF_ENDPOINT": hub.address, "HF_TOKEN": token}
        command = [Path(sys.executable).with_name(name), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)

    words = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data")
    made = run("ltx-precompute", *words, "--resolution-buckets", "64x64x9")
    assert made.returncode == 0, made.stderr
    flags = ("--hub-push", "--hub-model-id", "me/tiny", "--wandb-enabled")
    denied = run("ltx-train", "--config", "lora.yaml", *flags, token="hf_wrong")
    assert denied.returncode == 2, denied.stderr
    line = denied.stderr.splitlines()[-1]
    assert line.startswith("ltx-train: hub me/tiny: not uploaded: the hub says 401; set HF_TOKEN")
    assert "me/tiny" not in hub.repositories
    (record,) = tmp_path.glob("out/wandb/offline-run-*/*.wandb")
    assert b"losses/video" in record.read_bytes()
    assert (tmp_path / "out/report.html").read_text(encoding="utf-8").endswith("</html>\n")

    (again,) = re.findall(r"to try again: ltx-train (.*) \(the run is whole in out\)", line)
    done = run("ltx-train", *shlex.split(again))
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "out/checkpoints/lora_weights_step_00003.safetensors"
    assert hub.repositories["me/tiny"][weights.name] == weights.read_bytes()
    card = hub.repositories["me/tiny"]["README.md"].decode()
    assert "\n# tiny\n" in card
    assert "**ohwx**" in card
    assert set(hub.repositories["me/tiny"]) == {weights.name, "README.md"}
