"""Every quantised layer of a transformer with its adapter, one block in memory at a time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ltx_models.checkpoint import Checkpoint
from ltx_models.compensate.calibrate import PROMPTS, grid, samples
from ltx_models.compensate.fit import Compensated, compensate
from ltx_models.converted.fusing import Fusing
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.lora.adapters import attach
from ltx_models.lora.linear import Linear, LoRALinear
from ltx_models.quantize import Quantization
from ltx_models.text_encoder.encode import encode_prompts
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import Switches, TransformerBlock
from ltx_models.transformer.model import Modality, Transformer
from ltx_models.transformer.streamed import stream_blocks
from ltx_models.transformer.sweep import BothStreams, SwitchesOf, hidden

ROWS = 4  # of inputs for each of their channels, as far as there are as many


def compensated(
    checkpoint: Checkpoint,
    gemma: Path,
    layers: Mapping[str, Quantization],
    rank: int,
    *,
    dtype: mx.Dtype,
    fusing: Fusing | None = None,
) -> Iterator[tuple[str, Compensated]]:
    """Each of some layers, by path, as it is stored: quantised, with an adapter of ``rank``.

    In the order of the blocks. The float model runs in ``dtype``, with the LoRAs of ``fusing``
    attached, and they are part of the weights that are quantised. Prompts are encoded with the text
    encoder ``gemma``. The same layers come out the same, whichever others are asked for. Raises
    UserError as ``encode_prompts``.
    """
    if not layers:
        return
    contexts = encode_prompts(gemma, checkpoint, PROMPTS, dtype=dtype)
    model = load_transformer(checkpoint, dtype=dtype)
    stream_blocks(model, checkpoint)
    if fusing is not None:
        attach(model, fusing.loras, allow_unmatched=True)
    given = samples(model, contexts, grid(checkpoint))
    for path, base, inputs in layer_inputs(model, given, layers):
        weight = base.weight
        if fusing is not None and fusing.changes_key(key := f"{TRANSFORMER}{path}.weight"):
            weight = fusing.changed(key, weight)
        yield path, compensate(weight, inputs, layers[path], rank)


def layer_inputs(
    model: Transformer, given: list[Modality], paths: Mapping[str, object]
) -> Iterator[tuple[str, Linear, mx.array]]:
    """Layers by path with what they are given in a call: inputs (rows, in), evaluated.

    Block after block; what a block's layers hold is let go of when it is done.
    """
    streams = _entered(model, given)
    left = set(paths)
    for index, block in enumerate(model.transformer_blocks):
        if not left:
            return
        before = f"transformer_blocks.{index}."
        own = {path: path.removeprefix(before) for path in paths if path.startswith(before)}
        with _watched(block, own.values()) as seen:
            streams = block(*streams, Switches())
            mx.eval(hidden(streams), [watch.inputs for watch in seen.values()])
        for path, name in own.items():
            watch = seen.pop(name)
            yield path, watch.base, watch.inputs
        left -= own.keys()
        for name, _ in block.named_modules():
            model.forget(f"{before}{name}")
        mx.clear_cache()


class _Watch(nn.Module):
    """A layer that keeps what it is given."""

    def __init__(self, layer: Linear | LoRALinear):
        super().__init__()
        self.layer = layer
        self.inputs = mx.zeros((0, 0))  # (rows, in)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out)."""
        rows = x.flatten(0, -2)
        self.inputs = rows[:: max(len(rows) // (ROWS * rows.shape[-1]), 1)]
        return self.layer(x)

    @property
    def base(self) -> Linear:
        """The layer itself, without LoRAs."""
        return self.layer.base if isinstance(self.layer, LoRALinear) else self.layer


@contextmanager
def _watched(block: TransformerBlock, names: Collection[str]) -> Iterator[dict[str, _Watch]]:
    """A block whose layers of these names keep what they are given, until the context ends."""
    layers = dict(block.named_modules())
    watches = {name: _Watch(layers[name]) for name in names}
    block.update_modules(tree_unflatten([*watches.items()]))
    try:
        yield watches
    finally:
        block.update_modules(tree_unflatten([(name, layers[name]) for name in names]))


def _entered(model: Transformer, given: list[Modality]) -> BothStreams:
    """The streams as the first block has them."""
    found: list[BothStreams] = []

    def keep(
        _blocks: Sequence[TransformerBlock], streams: BothStreams, _switches: SwitchesOf
    ) -> BothStreams:
        found.append(streams)
        return streams

    before, model.sweep = model.sweep, keep
    try:
        model(*given)
    finally:
        model.sweep = before
    return found[0]
