"""Short names for models: each a repository and the bits that it is quantised to at load."""

from typing import NamedTuple

BROKEN_OWNER = "AITRADER/"  # of the snapshots that the names once meant


class Alias(NamedTuple):
    """What a short name stands for."""

    repository: str
    bits: int


ALIASES = {
    f"ltx2-{variant}-{bits}bit-mlx": Alias(f"mlx-community/LTX-2-{variant}-bf16", bits)
    for variant in ("dev", "distilled")
    for bits in (4, 8)
}


def warning(name: str) -> list[str]:
    """A line for a repository that is known to be broken, and what works in its place."""
    alias = name.removeprefix(BROKEN_OWNER)
    if alias == name or alias not in ALIASES:
        return []
    return [f"{name}: this snapshot is known to be broken; --model {alias} is whole"]
