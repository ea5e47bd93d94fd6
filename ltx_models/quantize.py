"""Quantising a transformer's large linear layers (spec/model.md part 14)."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ltx_models.errors import UserError

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
# Bits to the group sizes that MLX has for them; the first is ours. Groups are small enough for 4
# bits to keep the detail that 8 bits keep with larger ones.
AFFINE = {
    2: (32, 64, 128),
    3: (32, 64, 128),
    4: (32, 64, 128),
    5: (64, 32, 128),
    6: (64, 32, 128),
    8: (64, 32, 128),
}
FLOAT_MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}  # bits and group size
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2")
PACKED = ("weight", "scales", "biases")  # what MLX quantises to; biases in affine mode alone
WORD = 32  # bits of the integers that values are packed into


class Quantization(NamedTuple):
    """How a layer's weight is stored: bits of a value, values that share a scale, MLX's mode."""

    bits: int
    group_size: int
    mode: Mode = "affine"

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.mode} {self.bits} bit, groups of {self.group_size}"


def quantization(
    bits: int | None = None, *, mode: str = "affine", group_size: int | None = None
) -> Quantization:
    """A way to quantise that MLX has; what is not given is the mode's own, or our choice.

    Raises UserError that names what would fit.
    """
    if mode not in get_args(Mode):
        raise UserError(f"quantisation {mode!r}: there are {', '.join(get_args(Mode))}")
    if mode in FLOAT_MODES:
        own_bits, own_group = FLOAT_MODES[mode]
        if bits not in (None, own_bits) or group_size not in (None, own_group):
            raise UserError(f"{mode} has {own_bits} bits in groups of {own_group}, no other")
        return Quantization(own_bits, own_group, cast(Mode, mode))
    if bits not in AFFINE:
        given = "say which" if bits is None else f"not {bits}"
        raise UserError(f"affine quantisation has {', '.join(map(str, AFFINE))} bits, {given}")
    if group_size is not None and group_size not in AFFINE[bits]:
        raise UserError(
            f"affine groups are of {', '.join(map(str, sorted(AFFINE[bits])))}, not {group_size}"
        )
    return Quantization(bits, group_size or AFFINE[bits][0])


def is_quantised(path: str, shape: tuple[int, ...], how: Quantization) -> bool:
    """Whether a weight (out, in) of the transformer is one that is quantised, by its layer's path.

    Attention and feed-forward of every block are. AdaLN, gates, norms, tables and the projections
    at both ends stay as they are, and so do layers whose width is not a multiple of the group.
    """
    large = "transformer_blocks." in path and path.endswith(LAYERS)
    return large and len(shape) == 2 and shape[1] % how.group_size == 0


def named(packed: Sequence[mx.array]) -> dict[str, mx.array]:
    """What ``mx.quantize`` gives, by its names in a layer."""
    return dict(zip(PACKED[: len(packed)], packed, strict=True))


def quantize(model: nn.Module, how: Quantization, *, evaluate: bool = True) -> int:
    """Quantise the layers that ``is_quantised`` names; return how many.

    Weights are evaluated one layer after the other, unless only their shapes are wanted. Raises
    UserError for a model that is quantised already.
    """
    count = 0
    if any(isinstance(layer, nn.QuantizedLinear) for layer in model.modules()):
        raise UserError("this model is quantised as it is stored; leave the quantisation out")

    def chosen(path: str, layer: nn.Module) -> bool:
        nonlocal count
        fits = isinstance(layer, nn.Linear) and is_quantised(path, layer.weight.shape, how)
        count += fits
        return fits

    nn.quantize(
        model,
        group_size=how.group_size,
        bits=how.bits,
        mode=how.mode,
        class_predicate=chosen,
    )
    for layer in model.modules() if evaluate else ():
        if isinstance(layer, nn.QuantizedLinear):
            mx.eval(layer.parameters())
    return count


def make_quantised(model: nn.Module, layers: Mapping[str, Quantization]) -> None:
    """Put quantised layers, with nothing in them yet, in place of linear ones by their paths.

    Raises KeyError for a path that has no linear layer.
    """
    linear = {path: x for path, x in model.named_modules() if isinstance(x, nn.Linear)}
    new = []
    for path, how in layers.items():
        out_dims, in_dims = linear[path].weight.shape
        bias = "bias" in linear[path]
        layer = nn.QuantizedLinear(in_dims, out_dims, bias, how.group_size, how.bits, how.mode)
        new.append((path, layer))
    model.update_modules(tree_unflatten(new))
