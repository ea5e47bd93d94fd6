"""A layer with four adapters against its base and a single pair of as many ranks."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.lora.linear import Adapter, LoRALinear
from tests.bench.timing import interleaved_medians

DIMS, NUM_ADAPTERS, RANK, NUM_TOKENS, CALLS = 1024, 4, 32, 1024, 8


def measure() -> dict[str, float]:
    """Seconds of the layer, of the base with one pair, of the bare base; and the first two over."""
    mx.random.seed(0)
    base = nn.Linear(DIMS, DIMS)
    layer = LoRALinear(base, {n: _adapter(RANK) for n in range(NUM_ADAPTERS)})
    layer.set_strengths([1.0, 0.7, 0.5, 0.3])
    pair = _adapter(NUM_ADAPTERS * RANK)
    x = mx.random.normal((NUM_TOKENS, DIMS))
    mx.eval(layer.parameters(), pair, x)

    def attached() -> None:
        mx.eval([layer(x) for _ in range(CALLS)])

    def bare() -> None:
        mx.eval([mx.addmm(base(x), x @ pair.A.T, pair.B.T) for _ in range(CALLS)])

    def alone() -> None:
        mx.eval([base(x) for _ in range(CALLS)])

    seconds = interleaved_medians([attached, bare, alone])
    return {
        "layer_ms": 1e3 * seconds[0] / CALLS,
        "pair_ms": 1e3 * seconds[1] / CALLS,
        "base_ms": 1e3 * seconds[2] / CALLS,
        "ratio": seconds[0] / seconds[1],
    }


def _adapter(rank: int) -> Adapter:
    return Adapter(mx.random.normal((rank, DIMS)), mx.random.normal((DIMS, rank)), 0.01)
