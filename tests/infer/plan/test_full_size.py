"""The plan of the released 22B model, of which only the header is there."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.hub.place import shown_size
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Facts, make_recipe
from ltx_infer.plan.parts import On
from ltx_infer.plan.peak import GPU
from ltx_infer.plan.plan import Choices, Plan, Run, make_plan
from ltx_models.checkpoint import open_checkpoint
from ltx_models.released import LTX_2_3
from tests.full_size import full_size_shapes, metadata_of, write_empty

GB = 1e9
README = Path(__file__).parents[3] / "README.md"
ON_A_MAC = On(mx.bfloat16, GPU)
GEMMA = {
    "hidden_size": 3840,
    "num_hidden_layers": 48,
    "intermediate_size": 15360,
    "num_attention_heads": 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    path = folder / "ltx-2.3-22b-distilled.safetensors"
    write_empty(path, full_size_shapes(), metadata_of(LTX_2_3))
    gemma = folder / "gemma"
    gemma.mkdir()
    (gemma / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": GEMMA}))
    write_empty(gemma / "model.safetensors", {"w": (int(3.3e9) // 3840, 3840)}, {})
    return folder


def planned(folder: Path, size: ClipSize, *, bits: int | None, low_memory: bool = False) -> Plan:
    config = build(
        {
            "prompt": "waves",
            "audio": True,
            "height": size.height,
            "width": size.width,
            "num_frames": size.num_frames,
        }
    )
    models = Models(
        open_checkpoint(folder / "ltx-2.3-22b-distilled.safetensors"),
        folder / "gemma",
        None,
        dtype=mx.bfloat16,
        bits=bits,
    )
    facts = Facts(version=(2, 3), variant="distilled", num_layers=48, first_tokens=1)
    run = Run(models, make_recipe(config, facts), size, prompts=["x" * 600])
    return make_plan(run, Choices(bits=bits, low_memory=low_memory), ON_A_MAC)


SIZE = ClipSize(num_frames=121, height=512, width=768, fps=24)


def test_a_clip_at_4_bits_takes_24_gb_at_most(folder):
    plan = planned(folder, SIZE, bits=4)
    assert 12 * GB < plan.total <= 24 * GB
    assert plan.largest.name == "stage 2"
    assert max(part.total for part in plan.parts if part.name == "decode") < 3 * GB
    parts = {part.name: part for part in plan.parts}
    assert parts["stage 2"].work > parts["stage 1"].work  # four times the tokens
    assert mx.get_active_memory() < 10**8  # nothing was read


SIZES = (
    ClipSize(33, 512, 512, 24),
    SIZE,
    ClipSize(257, 512, 768, 24),
    ClipSize(121, 1024, 1536, 24),
)
WAYS = {
    "bf16": (None, False),
    "`-q 8`": (8, False),
    "`-q 4`": (4, False),
    "`-q 4 --low-memory`": (4, True),
}


def table(folder: Path) -> str:
    """What README says of the released model."""
    sizes = [f"{size.width}x{size.height}, {size.num_frames} frames" for size in SIZES]
    lines = [f"| | {' | '.join(sizes)} |", f"|---|{'---|' * len(SIZES)}"]
    for name, (bits, low_memory) in WAYS.items():
        plans = [planned(folder, size, bits=bits, low_memory=low_memory) for size in SIZES]
        lines.append(f"| {name} | {' | '.join(shown_size(plan.total) for plan in plans)} |")
    return "\n".join(lines)


@pytest.mark.slow
def test_readme_says_what_is_planned(folder):
    assert table(folder) in README.read_text()


def test_streamed_blocks_take_less(folder):
    streamed = planned(folder, SIZE, bits=4, low_memory=True)
    stage = max(part.total for part in streamed.parts if part.name.startswith("stage"))
    assert stage < 4 * GB
