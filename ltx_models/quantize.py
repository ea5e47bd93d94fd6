"""Quantising a transformer's large linear layers at load (spec/model.md part 14)."""

import mlx.core as mx
import mlx.nn as nn

# Groups small enough for 4 bits to keep the detail that 8 bits keep with larger ones.
GROUP_SIZES = {2: 32, 4: 32, 6: 64, 8: 64}
MXFP8_GROUP_SIZE = 32  # the only one that this format has
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2")


def quantize(model: nn.Module, bits: int, *, mode: str = "affine", evaluate: bool = True) -> int:
    """Quantise the attention and feed-forward layers of every block; return how many.

    AdaLN, gates, norms, tables and the projections at both ends stay as they are, and so do layers
    whose width is not a multiple of the group. Weights are evaluated one layer after the other,
    unless only their shapes are wanted. ``mode`` is "affine", or "mxfp8" with 8 bits.
    """
    count = 0
    group_size = MXFP8_GROUP_SIZE if mode == "mxfp8" else GROUP_SIZES[bits]

    def chosen(path: str, layer: nn.Module) -> bool:
        nonlocal count
        fits = (
            isinstance(layer, nn.Linear)
            and "transformer_blocks." in path
            and path.endswith(LAYERS)
            and layer.weight.shape[1] % group_size == 0
        )
        count += fits
        return fits

    nn.quantize(model, group_size=group_size, bits=bits, mode=mode, class_predicate=chosen)
    for layer in model.modules() if evaluate else ():
        if isinstance(layer, nn.QuantizedLinear):
            mx.eval(layer.parameters())
    return count
