"""What adapters take that see themselves fused into a quantised base (ltx_models/lora/aware.py)."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.lora.aware import AwareLoRALinear
from ltx_models.lora.linear import weight_shape
from ltx_models.quantize import PACKED
from ltx_models.transformer.model import Transformer

# Float32 weights of the layer at work: its own, and the two that they become one of, in turns.
AT_WORK = 3


class Merges(NamedTuple):
    """Bytes."""

    kept: int  # of requantised weights, until their gradients are there
    at_work: int  # of the largest layer's, while it is made


def count_merges(model: Transformer, *, recompute: bool) -> Merges:
    """Count them for a step; both 0 where no adapter sees its merge.

    With recompute one block at a time keeps its own. MLX quantises to mxfp4, mxfp8 and nvfp4 on a
    CPU by comparing with each number of the mode, which takes seven times as much at work and is
    not counted.
    """
    blocks = [_packed(block) for block in model.transformer_blocks]
    outside = _packed(model) - sum(blocks)
    largest = max((rows * columns for rows, columns in map(_shape, _aware(model))), default=0)
    kept = outside + (max(blocks) if recompute else sum(blocks))
    return Merges(kept=kept, at_work=AT_WORK * largest * mx.float32.size)


def _aware(module: nn.Module) -> list[AwareLoRALinear]:
    return [each for each in module.modules() if isinstance(each, AwareLoRALinear)]


def _shape(layer: AwareLoRALinear) -> tuple[int, int]:
    return weight_shape(layer.base)


def _packed(module: nn.Module) -> int:
    arrays = [layer.base.get(name) for layer in _aware(module) for name in PACKED]
    return sum(x.nbytes for x in arrays if x is not None)
