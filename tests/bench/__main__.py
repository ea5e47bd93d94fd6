"""Ratios in one run: ``python -m tests.bench``. What was reached: docs/experiments.md.

``python -m tests.bench lora_linear`` measures what is in that file alone; several may be named.
"""

import sys

from ltx_models.blas import loaded_blas
from ltx_models.device import prepare
from tests.bench import (
    guided,
    lora_linear,
    memory_plan,
    open_checkpoint,
    precompute,
    train_step,
    transformer_block,
    vae_decode,
)

GOALS = {
    "transformer block over its bare products": (transformer_block.measure, "ratio", 1.18),
    "VAE decode over its bare convolutions": (vae_decode.measure, "ratio", 1.2),
    "opening a 2 GB checkpoint": (open_checkpoint.measure, "opened_mb", 20.0),
    "fitting all networks of a full-size checkpoint": (
        open_checkpoint.measure_check,
        "check_s",
        0.5,
    ),
    "guided image to video on tiny, outside its networks": (guided.measure, "outside_share", 0.05),
    "guided step, four passes at once over one by one": (guided.measure_batched, "ratio", 1.05),
    "four adapters of rank 32 over one of rank 128": (lora_linear.measure, "ratio", 1.1),
    "latents of 50 clips: waiting for data": (precompute.measure, "waiting_share", 0.05),
    "latents of 50 clips over the bare encoder": (precompute.measure, "ratio", 1.15),
    "training step over its forward pass": (train_step.measure, "plain", 2.2),
    "training step with recompute over its forward pass": (train_step.measure, "recomputed", 3.2),
    "working memory of a step with recompute over without": (train_step.measure, "memory", 0.35),
    "memory plan of a step over its peak, off from 1": (memory_plan.measure, "off", 0.1),
}


def main() -> None:
    """Measure, print, and say which goals are missed."""
    files = {name: measure.__module__.rpartition(".")[2] for name, (measure, *_) in GOALS.items()}
    asked = sys.argv[1:] or list(files.values())
    if strange := set(asked) - set(files.values()):
        sys.exit(f"no benchmark {', '.join(strange)}; there are {', '.join(set(files.values()))}")
    prepare()
    print(f"BLAS: {loaded_blas()}")
    for name, (measure, key, goal) in GOALS.items():
        if files[name] not in asked:
            continue
        found = measure()
        reached = "reached" if found[key] <= goal else "missed"
        listed = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
        print(f"{name}: {listed} (goal: {key} at most {goal}: {reached})")


main()
