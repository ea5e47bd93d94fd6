"""The page on the hub: its front matter, and what it tells a person."""

import shlex
from pathlib import Path

import pytest
import yaml

from ltx_infer.cli import _parser
from ltx_train.config import read_config
from ltx_train.data.geometry import Factors
from ltx_train.output.card import model_card
from ltx_train.output.layout import MadeSample
from tests.train.report.made_run import CONFIG, FACTS

WEIGHTS = Path("/home/someone/out/checkpoints/lora_weights_step_00200.safetensors")
SAMPLES = [
    MadeSample(200, 1, Path("/home/someone/out/samples/step_000200_1.mp4")),
    MadeSample(200, 2, Path("/home/someone/out/samples/step_000200_2.png")),
]
SHIPPED = sorted(Path("configs/train").glob("*.yaml"))
assert SHIPPED


@pytest.fixture
def card(tmp_path):
    """The card of a configuration in words, with some values put over it."""

    def card(*overrides: str, text: str = CONFIG, facts=FACTS, samples=SAMPLES) -> str:
        path = tmp_path / "lora.yaml"
        path.write_text(text)
        hub = "hub.hub_model_id=me/boats"
        config = read_config(path, ["output_dir=/home/someone/out", hub, *overrides])
        return model_card(config, facts, step=200, weights=WEIGHTS, samples=samples)

    return card


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter(card):
    assert front(card()) == {
        "license": "other",
        "license_name": "ltx-2-community-license-agreement",
        "license_link": "https://github.com/Lightricks/LTX-2/blob/main/LICENSE",
        "base_model": "Lightricks/LTX-2.3",
        "base_model_relation": "adapter",
        "library_name": "mlx",
        "pipeline_tag": "text-to-video",
        "tags": ["ltx-2", "ltx-video", "audio-video", "comfyui", "text-to-video", "lora"],
        "instance_prompt": "ohwx",
        "widget": [
            {"text": "a <i>boat</i>", "output": {"url": "samples/step_000200_1.mp4"}},
            {"text": "waves", "output": {"url": "samples/step_000200_2.png"}},
        ],
    }
    bare = front(card(facts=FACTS._replace(trigger=None, base_version="2.0"), samples=[]))
    assert bare["base_model"] == "Lightricks/LTX-2"
    assert not {"instance_prompt", "widget"} & bare.keys()
    full = front(card("model.training_mode=full"))
    assert (full["base_model_relation"], "lora" in full["tags"]) == ("finetune", False)


def test_what_a_person_reads(card):
    text = card("validation.samples.0.prompt=a 'red' boat")
    assert text.startswith("---\nlicense: other\n")
    assert "\n# boats\n\nA LoRA for LTX-2.3, trained on picture and sound." in text
    assert "Put **ohwx** into the prompt" in text
    assert "Made at step 200 of 200" in text
    assert "> a 'red' boat\n\n<video controls loop src=\"samples/step_000200_1.mp4\">" in text
    assert "![step_000200_2](samples/step_000200_2.png)" in text
    assert "`ComfyUI/models/loras`" in text
    assert "| rank, alpha | 32, 32 (folded in) |" in text
    assert "| samples | 2: 768x512x49 (2), 512x512x1 (1) |" in text
    assert "stays under the [LTX-2 Community License Agreement](https://github.com/" in text
    assert "/home/someone" not in text  # paths are nobody's business
    full = card("model.training_mode=full")
    assert f"ltx-generate --model {WEIGHTS.name} --prompt" in full
    assert "--lora" not in full
    assert "`ComfyUI/models/checkpoints`" in full


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_command_is_one_that_there_is(card, path):
    """For each kind of run: ltx-generate knows every flag of it."""
    text = card("data.preprocessed_data_root=data", text=path.read_text())
    command = text.split("```sh\n")[1].split("\n```")[0]
    name, *words = shlex.split(command)
    args = _parser().parse_args(words)
    assert (name, args.lora) == ("ltx-generate", [[WEIGHTS.name]])
    assert args.prompt.startswith("ohwx, ")
    is_reference = "ic_lora" in path.stem and path.stem != "a2a_ic_lora"
    assert (args.pipeline == "ic-lora") == is_reference
    assert (args.audio_file is not None) == (path.stem == "a2v_lora")
    assert (args.keep == "video") == (path.stem == "v2a_lora")
    assert (front(text)["pipeline_tag"] == "text-to-audio") == (
        path.stem.startswith(("t2a", "v2a", "a2a", "audio"))
    )


def test_an_ic_lora_says_how_large_its_references_are(card):
    text = card(
        text=Path("configs/train/v2v_ic_lora.yaml").read_text(),
        facts=FACTS._replace(reference=Factors(2, 1)),
    )
    assert "References are 2 times smaller than the clip" in text
    assert "It was shown with: first frame, reference." in text
    assert front(text)["pipeline_tag"] == "video-to-video"
