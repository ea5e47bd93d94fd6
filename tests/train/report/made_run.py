"""The folder of a run as its report finds it, of made-up numbers and clips."""

import math
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ltx_infer.media.write import write_clip
from ltx_train.data.geometry import Factors
from ltx_train.output.facts import Facts
from ltx_train.report.metrics import append, step_row, validation_row
from ltx_train.trainer import StepMetrics

FACTS = Facts(
    base_file="ltx-2.3-22b-dev.safetensors",
    base_version="2.3.0",
    variant="dev",
    reference=Factors(1, 1),
    data_hash="0123456789abcdef",
    trigger="ohwx",
    num_with_trigger=2,
    sizes={"768x512x49": 2, "512x512x1": 1},
    captions=[("a", "ohwx, a <b>boat</b>"), ("b", "ohwx, waves"), ("c", None)],
    held_out=["b"],
    notes=["1 of 3 files do not say caption"],
)
CONFIG = """\
model: {model_path: ltx-2.3-22b-dev.safetensors}
lora: {rank: 32, alpha: 32}
training_strategy: {name: flexible, video: {}, audio: {}}
optimization: {steps: 200, batch_size: 1}
validation: {samples: [{prompt: "a <i>boat</i>"}, {prompt: waves}], interval: 50, holdout: 1}
data: {preprocessed_data_root: data}
"""


def step(number: int, *, skipped: int = 0, **changes) -> StepMetrics:
    """A step's numbers, noisy and falling."""
    rng = random.Random(number)
    loss = 0.4 + math.exp(-number / 60) + rng.gauss(0, 0.08)
    losses = {"video": loss, "audio": 0.8 * loss + rng.gauss(0, 0.05)}
    quarter = rng.randrange(4)
    values = {
        "step": number,
        "loss": float("nan") if skipped else loss + losses["audio"],
        "losses": losses,
        "quarters": {
            name: [value if i == quarter else None for i in range(4)]
            for name, value in losses.items()
        },
        "learning_rate": 1e-4 * (1 - number / 250),
        "grad_norm": 0.5 + rng.random(),
        "adapter_norm": number**0.6 / 10,
        "dead_share": 0.1 if number == 1 else 0.0,
        "skipped_in_a_row": skipped,
        "seconds": 2.5 + rng.random() / 10,
    }
    return StepMetrics(**{**values, **changes})


def write_metrics(path: Path, *, steps: int, interval: int = 50) -> None:
    """The rows of so many steps, with a validation at 0 and every ``interval``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(steps + 1):
        if number:
            memory = {"memory_active": 14 * 2**30, "memory_peak": 21 * 2**30}
            append(path, step_row(step(number), **memory))
        if number % interval == 0:
            held = 0.5 + math.exp(-number / 80)
            losses = {"loss": 2 * held, "video": held, "audio": held}
            append(path, validation_row(step=number, losses=losses, seconds=9.0))


def write_samples(folder: Path, steps, *, numbers=(1, 2)) -> None:
    """A moving clip for each step and number; number 3 is a still."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for step_number in steps:
        for number in numbers:
            path = folder / f"samples/step_{step_number:06}_{number}"
            frames = _frames(step_number + number)
            if number == 3:
                Image.fromarray(frames[0]).save(path.with_suffix(".png"))
            else:
                write_clip(path.with_suffix(".mp4"), [frames], fps=Fraction(24))


def _frames(seed: int) -> np.ndarray:
    """(9, 64, 96, 3): a slope that moves."""
    x = np.arange(96)[None, None, :, None] + 4 * np.arange(9)[:, None, None, None]
    y = np.arange(64)[None, :, None, None]
    waves = np.sin((x + y * (seed % 3 + 1)) / 9 + np.arange(3) + seed)
    return (127 + 120 * waves).astype(np.uint8)
