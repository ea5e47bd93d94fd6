from itertools import product

from ltx_train.config import ValidationConfig, ValidationSample
from ltx_train.runs.describe import clips_to_make, counted, module_groups
from ltx_train.runs.progress import Progress, duration
from ltx_train.trainer import StepMetrics


def test_layers_are_counted_by_kind():
    parts = ("attn1.to_q", "attn1.to_out.0", "ff.net.0.proj", "audio_attn1.to_q")
    modules = [f"transformer_blocks.{i}.{part}" for i, part in product(range(12), parts)]
    assert module_groups([*modules, "proj_out", "adaln_single.linear"]) == [
        "1 adaln_single.linear: itself",
        "1 proj_out: itself",
        "24 transformer_blocks.*.attn1: to_out.0, to_q",
        "12 transformer_blocks.*.audio_attn1: to_q",
        "12 transformer_blocks.*.ff: net.0.proj",
    ]


def metrics(step: int, *, loss: float, skipped: int = 0) -> StepMetrics:
    rest = dict.fromkeys(("grad_norm", "adapter_norm", "dead_share"), 0.0)
    return StepMetrics(
        step=step,
        loss=loss,
        losses={},
        quarters={},
        learning_rate=1e-4,
        skipped_in_a_row=skipped,
        seconds=2.0,
        **rest,
    )


def test_progress_is_the_mean_of_an_interval():
    said: list[str] = []
    progress = Progress(said.append, steps=25, every_step=False)
    for step in range(1, 26):
        progress.add(metrics(step, loss=float(step)), memory_peak=3_000_000_000)
    assert said == [
        "step 10/25: loss 5.5000 (mean of 10 steps, rate 1.00e-04), 2.00 s a step, 30 s left, "
        "peak 3.00 GB",
        "step 20/25: loss 15.5000 (mean of 10 steps, rate 1.00e-04), 2.00 s a step, 10 s left, "
        "peak 3.00 GB",
        "step 25/25: loss 23.0000 (mean of 5 steps, rate 1.00e-04), 2.00 s a step, 0 s left, "
        "peak 3.00 GB",
    ]


def test_every_step_and_skipped_ones():
    said: list[str] = []
    progress = Progress(said.append, steps=3, every_step=True)
    progress.add(metrics(1, loss=0.5), memory_peak=1)
    progress.add(metrics(2, loss=float("nan"), skipped=1), memory_peak=1)
    assert said[0].startswith("step 1/3: loss 0.5000 (rate 1.00e-04)")
    assert said[1:] == ["step 2/3: skipped, as its loss or gradient is not finite (1 in a row)"]


def test_durations():
    assert duration(45) == "45 s"
    assert duration(720) == "12 min"
    assert duration(12_000) == "3 h 20 min"


def test_things_are_counted():
    assert [counted(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]


def test_clips_of_a_validation_are_told_with_their_sizes():
    small = ValidationSample(prompt="a", video_dims=(64, 32, 9))
    usual = ValidationSample(prompt="b")
    assert clips_to_make(ValidationConfig(samples=(usual, usual))) == "2 clips of 960x544x89"
    both = ValidationConfig(samples=(usual, small))
    assert clips_to_make(both) == "2 clips of 64x32x9, 960x544x89"
