"""What quantised weights keep of a LoRA: ``python -m tests.bench.numerics`` prints the tables.

They are in docs/numerics.md as they were printed. Weights have outliers, as real ones do: Gaussian,
each input channel with a scale of its own from a lognormal distribution of width 1, and a few rows
that are large.
"""

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ltx_models.device import prepare
from ltx_models.lora.linear import Adapter
from ltx_models.lora.put import changes
from ltx_models.lora.retained import Retained, in_all, retained
from ltx_models.lora.updates import Update

MODES = (
    *(("affine", bits, size) for bits in (8, 6, 5, 4, 3, 2) for size in (32, 64, 128)),
    ("mxfp8", 8, 32),
    ("mxfp4", 4, 32),
    ("nvfp4", 4, 16),
)
LAYERS, DIMS = 4, 1024
NUM_LARGE_ROWS, LARGE = 8, 4.0
SHARE = 0.03  # of |W|, that an update of rank 32 has at strength 1
CASES = ((4, 1.0), (32, 0.5), (32, 1.0), (32, 2.0), (32, 4.0), (128, 1.0))  # rank, strength


def weight(seed: int, rows: int = DIMS, columns: int = DIMS) -> np.ndarray:
    """(rows, columns) with outliers, in float32."""
    draw = np.random.default_rng(seed)
    W = draw.normal(size=(rows, columns)) * np.exp(draw.normal(size=columns)) / columns**0.5
    W[draw.choice(rows, NUM_LARGE_ROWS, replace=False)] *= LARGE
    return W.astype(np.float32)


def adapter(seed: int, base: np.ndarray, rank: int) -> Adapter:
    """As training begins, A as PEFT draws it; B of the same size for every rank."""
    draw = np.random.default_rng(seed)
    rows, columns = base.shape
    bound = columns**-0.5
    A = draw.uniform(-bound, bound, (rank, columns))
    B = draw.normal(size=(rows, rank))
    size = SHARE * np.linalg.norm(base) / (32 * rows * columns * bound**2 / 3) ** 0.5
    return Adapter(mx.array(A, mx.float32), mx.array(size * B, mx.float32), 1.0)


def measure(mode: str, bits: int, group_size: int, *, rank: int, strength: float) -> Retained:
    """What ``LAYERS`` layers of this quantisation keep, in all; what fusing itself would say."""
    found = []
    for seed in range(LAYERS):
        W = weight(seed)
        layer = nn.Linear(DIMS, DIMS, bias=False)
        layer.weight = mx.array(W)
        stored = nn.QuantizedLinear.from_linear(layer, group_size, bits, mode)
        update = Update(low_rank=adapter(seed, W, rank))
        kept = retained(stored, changes(stored, {0: (update, strength)})[0])
        assert kept is not None
        found.append(kept)
    return in_all(found)


def rows() -> Iterator[list[str]]:
    """The table: its head, then a line for each mode."""
    yield ["mode, bits, group", *(f"rank {rank}, x{strength:g}" for rank, strength in CASES)]
    for mode, bits, group_size in MODES:
        cells = []
        for rank, strength in CASES:
            found = measure(mode, bits, group_size, rank=rank, strength=strength)
            cell = f"{found.kept:.2f} / {found.error:.2f}"
            cells.append(f"**{cell}**" if found.enough else cell)
        yield [f"{mode} {bits}, {group_size}", *cells]


def sizes() -> list[str]:
    """The size of each case's update, over that of the weight it is for."""
    W = weight(0)
    shares = []
    for rank, strength in CASES:
        A, B, _ = adapter(0, W, rank)
        shares.append(strength * np.linalg.norm(np.array(B) @ np.array(A)) / np.linalg.norm(W))
    return ["update / weight", *(f"{100 * share:.1f} %" for share in shares)]


def main() -> None:
    """Print the table of what is retained, as Markdown."""
    prepare()
    head, *lines = rows()
    for cells in (head, ["---"] * len(head), sizes(), *lines):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
