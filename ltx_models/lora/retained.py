"""What of an update a quantised weight takes up when the update is fused into it.

With Q the weight's own quantisation, old = Q(W) as floats and D the update: new = Q(old + D) and
got = new - old. kept = <got, D> / |D|^2 is how much of the update arrived, error = |got - D| / |D|
how much else came with it. Over layers the products and squares are summed, not the ratios.

A change below half a step of the grid is rounded away, so that a LoRA on 4 bits may load and teach
nothing. Attached, it is all there.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn

from ltx_models.lora.aware import requantised
from ltx_models.lora.keys import LoRAError
from ltx_models.lora.updates import dequantised, stored_weight

LEAST_KEPT, MOST_ERROR = 0.9, 0.5


class Retained(NamedTuple):
    """The sums that kept and error are made of, for one layer or several."""

    inner: float  # <got, wanted>
    missed: float  # |got - wanted|^2
    wanted: float  # |wanted|^2, above 0

    @property
    def kept(self) -> float:
        """How much of the update arrived: 1 is all of it."""
        return self.inner / self.wanted

    @property
    def error(self) -> float:
        """The size of what differs, over that of the update."""
        return (self.missed / self.wanted) ** 0.5

    @property
    def enough(self) -> bool:
        """Whether the fused weights do what the LoRA does."""
        return self.kept >= LEAST_KEPT and self.error <= MOST_ERROR

    @property
    def in_words(self) -> str:
        """Both numbers, for a line."""
        return f"kept {self.kept:.2f}, error {self.error:.2f}"


def retained(layer: nn.QuantizedLinear, wanted: mx.array) -> Retained | None:
    """What would arrive of ``wanted`` (out, in), float32; None where nothing is. Changes nothing.

    As large as a few float weights of this layer in memory, for the moment.
    """
    old = stored_weight(layer)
    new = dequantised(layer, *requantised(layer, old + wanted))
    got = new - old
    sums = mx.stack([(got * wanted).sum(), (got - wanted).square().sum(), wanted.square().sum()])
    inner, missed, size = cast(list[float], sums.tolist())
    return Retained(inner, missed, size) if size else None


def in_all(found: Iterable[Retained]) -> Retained:
    """Several layers as one."""
    return Retained(*(sum(sums) for sums in zip(*found, strict=True)))


def check_retained(found: Mapping[str, Retained]) -> None:
    """Raise LoRAError where quantised layers, by path, keep too little of an update."""
    if found and not in_all(found.values()).enough:
        whole, worst = retained_lines(found)
        raise LoRAError(
            f"{whole}; at least {LEAST_KEPT:g} and at most {MOST_ERROR:g} would do.\n{worst}.\n"
            "Attached (--lora-mode attach) all of it is kept; --lora-fuse-anyway goes on"
        )


def retained_lines(found: Mapping[str, Retained]) -> list[str]:
    """What arrived, in all and in the worst layer; nothing where no layer is quantised."""
    if not found:
        return []
    worst = max(found, key=lambda path: found[path].error)
    return [
        f"LoRA fused into {len(found)} quantised layers: {in_all(found.values()).in_words} in all",
        f"the worst layer is {worst}: {found[worst].in_words}",
    ]
