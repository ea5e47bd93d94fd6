"""What adapters beside quantised weights gain: ``python -m tests.bench.compensation``.

It prints the tables of docs/numerics.md: output error over the output, for one layer of Gaussian
weights at equal size, then for the whole transformer of the stand-in.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_models.checkpoint import open_checkpoint
from ltx_models.compensate.blocks import layer_inputs
from ltx_models.compensate.calibrate import PROMPTS, grid, samples
from ltx_models.compensate.fit import compensate, floats, quantised
from ltx_models.device import prepare
from ltx_models.lora.linear import linears
from ltx_models.quantize import Quantization, is_quantised, quantization
from ltx_models.text_encoder.encode import encode_prompts
from ltx_models.tiny import CHECKPOINT_FILE, GEMMA_FOLDER, tiny_folder
from ltx_models.transformer import load_transformer
from ltx_models.transformer.model import Modality, Transformer

ROWS = 4  # of inputs to fit to, for each channel
TESTED = 1024  # other rows, which the error is measured on
SCALE_BITS = {"affine": 32, "mxfp4": 8, "mxfp8": 8, "nvfp4": 8}  # of a group
TYPE_BITS = 16  # of the adapters
RANK = 32
SHAPES = ((4096, 4096), (16384, 4096), (4096, 16384))  # of released models' largest layers
UNSEEN = ("A dog runs along a beach and barks at the waves.", "Time lapse of a city from above.")


class Case(NamedTuple):
    """A layer, inputs to fit to, and others."""

    weight: mx.array  # (out, in)
    calibration: mx.array  # (rows, in)
    fresh: mx.array


def drawn_case(dims: int, rows: int | None = None, *, in_weight: bool = False) -> Case:
    """Weights (rows or dims, dims), Gaussian of seed 0, and inputs with lognormal(1) scales.

    With ``in_weight`` it is the weight's columns that have the scales.
    """
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(rows or dims, dims))
    scales = draw.lognormal(sigma=1, size=dims)
    inputs = draw.standard_normal((ROWS * dims + TESTED, dims), dtype=np.float32)
    if in_weight:
        weight *= scales
    else:
        inputs *= scales.astype(np.float32)
    fit_to, fresh = np.split(inputs, [ROWS * dims])
    return Case(mx.array(weight, mx.float32), mx.array(fit_to), mx.array(fresh))


def plain(case: Case, how: Quantization) -> mx.array:
    """The weight as it is stored without an adapter, as floats."""
    return floats(quantised(case.weight, how), how)


def error(case: Case, weight: mx.array) -> float:
    """The size of what another weight changes of the output, over that of the output."""
    changed = mx.linalg.norm(case.fresh @ (case.weight - weight).T)
    return (changed / mx.linalg.norm(case.fresh @ case.weight.T)).item()


def bits(how: Quantization, shape: tuple[int, ...], rank: int = 0) -> float:
    """Bits that a weight takes for each value, scales and adapter counted."""
    rows, columns = shape
    adapter = min(rank, rows, columns) * (rows + columns) / (rows * columns)
    return how.bits + SCALE_BITS[how.mode] / how.group_size + TYPE_BITS * adapter


def compared(dims: int, *, in_weight: bool = False) -> list[list[str]]:
    """Ways to store a weight (dims, dims), by size: what, bits a value, error, seconds to fit."""
    coarse, fine = quantization(4, group_size=64), quantization(4)
    per_bit = dims // (2 * TYPE_BITS)  # the rank that takes one bit a value
    adapted = {(how, rank) for how in (coarse, fine) for rank in (per_bit // 2, per_bit)}
    others = (coarse, fine, quantization(5), quantization(5, group_size=32), quantization(6))
    ways = adapted | {(fine, RANK)} | {(how, 0) for how in others}
    case, found = drawn_case(dims, in_weight=in_weight), []
    for how, rank in sorted(ways, key=lambda way: (bits(way[0], (dims, dims), way[1]), way)):
        start = perf_counter()
        weight = _stored(case, how, rank)
        mx.eval(weight)
        seconds = f"{perf_counter() - start:.1f}" if rank else ""
        size = f"{bits(how, (dims, dims), rank):.2f}"
        found.append([_name(how, rank), size, f"{100 * error(case, weight):.2f} %", seconds])
    return found


def timed() -> list[list[str]]:
    """Seconds to fit one layer of the sizes that the released models have."""
    found = []
    for shape in SHAPES:
        weight, inputs = mx.random.normal(shape), mx.random.normal((3888, shape[1]))
        mx.eval(weight, inputs)
        start = perf_counter()
        compensate(weight, inputs, quantization(4), RANK)
        found.append([f"{shape[0]} x {shape[1]}", f"{perf_counter() - start:.0f}"])
    return found


def stand_in(rank: int = 8) -> list[list[str]]:
    """The transformer of ``tiny``: bits a value, and errors of its layers and its velocities.

    Measured on prompts that nothing was fitted to.
    """
    exact, given, fresh = _samples()
    fine = quantization(4)
    paths = dict.fromkeys(
        path for path, x in linears(exact).items() if is_quantised(path, x.weight.shape, fine)
    )
    pairs = zip(layer_inputs(exact, given, paths), layer_inputs(exact, fresh, paths), strict=True)
    cases = {path: Case(layer.weight, x, other) for (path, layer, x), (_, _, other) in pairs}
    wanted, layers = exact(*fresh), linears(exact)
    mx.eval(wanted)
    num_values, found = sum(case.weight.size for case in cases.values()), []
    for how, each in ((fine, 0), (fine, rank), (quantization(5, group_size=32), 0)):
        errors, size = [], 0.0
        for path, case in cases.items():
            layers[path].weight = stored = _stored(case, how, each)
            errors.append(error(case, stored))
            size += case.weight.size * bits(how, case.weight.shape, each)
        off = [
            (mx.linalg.norm(got - want) / mx.linalg.norm(want)).item()
            for got, want in zip(exact(*fresh), wanted, strict=True)
        ]
        cells = (f"{100 * number:.2f} %" for number in (np.median(errors), *off))
        found.append([_name(how, each), f"{size / num_values:.2f}", *cells])
    return found


def _samples() -> tuple[Transformer, list[Modality], list[Modality]]:
    """The stand-in's transformer, and samples of the calibration's prompts and of others."""
    folder = tiny_folder()
    checkpoint = open_checkpoint(folder / CHECKPOINT_FILE)
    model = load_transformer(checkpoint, dtype=mx.float32)
    given, fresh = (
        samples(
            model,
            encode_prompts(folder / GEMMA_FOLDER, checkpoint, prompts, dtype=mx.float32),
            grid(checkpoint),
        )
        for prompts in (PROMPTS, UNSEEN)
    )
    return model, given, fresh


def _stored(case: Case, how: Quantization, rank: int) -> mx.array:
    """The weight as floats, with an adapter where a rank is given."""
    if not rank:
        return plain(case, how)
    return compensate(case.weight, case.calibration, how, rank).floats(how)


def _name(how: Quantization, rank: int) -> str:
    return f"{how.mode} {how.bits}, {how.group_size}" + (f", rank {rank}" if rank else "")


def _print(title: str, rows: Sequence[Sequence[str]]) -> None:
    head, *lines = rows
    print(f"{title}\n")
    for cells in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def main() -> None:
    """Print the tables as Markdown."""
    prepare()
    head = ["stored as", "bits", "error", "seconds to fit"]
    for dims in (1024, 4096):
        _print(f"D {dims}, scales of the inputs", [head, *compared(dims)])
    _print("D 1024, scales of the weights", [head, *compared(1024, in_weight=True)])
    _print(f"Rank {RANK}", [["out x in", "seconds to fit"], *timed()])
    head = ["stored as", "bits", "layers, the median", "picture", "sound"]
    _print("The stand-in", [head, *stand_in()])


if __name__ == "__main__":
    main()
