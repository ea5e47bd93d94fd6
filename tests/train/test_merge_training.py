"""What training for the merge is for: the loss after fusing into quantised weights."""

from statistics import mean

import pytest

from ltx_models.quantize import quantization
from tests.bench.merge_training import SEEDS, train


@pytest.mark.slow  # trains a base, and six adapters on it
def test_an_adapter_that_saw_its_merge_is_better_when_it_is_fused():
    how = quantization(4)
    plain, aware = (
        [train(how, aware=aware, seed=seed) for seed in SEEDS] for aware in (False, True)
    )
    for run, other in zip(aware, plain, strict=True):
        assert run.fused == pytest.approx(run.trained, rel=1e-3)  # what was seen is what is shipped
        assert run.fused < other.fused - 0.05
        assert run.fused < run.start - 0.3
    # Attached, the plain ones are as good: what they lose they lose in fusing.
    assert mean(run.trained for run in plain) < mean(run.fused for run in aware)
