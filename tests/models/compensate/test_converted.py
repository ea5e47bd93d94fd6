"""What ltx-convert writes with --compensate is loaded, and nearer to the float model."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.compensate.calibrate import grid, samples
from ltx_models.compensate.linear import CompensatedLinear
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.quantize import quantization
from ltx_models.tiny import CHECKPOINT_FILE, GEMMA_FOLDER
from ltx_models.transformer import load_transformer
from tests.models.compensate.test_blocks import SIZE, answers, contexts, off


class StoppedError(Exception):
    pass


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.rglob("*.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_the_stand_in_with_adapters_is_nearer_and_the_same_after_a_stop(tmp_path, tiny):
    source = tiny / CHECKPOINT_FILE
    asked = ConvertRequest(source, tmp_path / "plain", how=quantization(4), largest_file=200_000)
    convert(asked)
    better = replace(asked, output=tmp_path / "better", compensate=8, gemma=tiny / GEMMA_FOLDER)
    convert(better)
    exact, plain, compensated = (
        load_transformer(open_checkpoint(path), dtype=mx.float32)
        for path in (source, asked.output, better.output)
    )
    assert sum(isinstance(x, CompensatedLinear) for x in compensated.modules()) == 168
    monolith = open_checkpoint(source)
    given = samples(exact, contexts(monolith, 2, seed=9), grid(monolith, SIZE))
    wanted = answers(exact, given)
    assert off(answers(compensated, given), wanted) < 0.8 * off(answers(plain, given), wanted)

    def stop(name: str, done: int, total: int) -> None:
        if name == "transformer" and done > total / 2:
            raise StoppedError

    again = replace(better, output=tmp_path / "again")
    with pytest.raises(StoppedError):
        convert(again, report=stop)
    assert 0 < len(files(again.output)) < len(files(better.output))
    convert(again)
    assert files(again.output) == files(better.output)
