"""A transformer whose blocks are read from disk when their turn comes, and let go of after it.

Embeddings, norms, tables, output heads and adapters stay in memory. The weights of the blocks'
linear layers, nearly all there is, are arrays that MLX reads when it first computes with them: the
block that comes next is read while the present one computes, and the one before is put back to
arrays that nothing was read for. Not for training, whose gradients need every block again.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.quantize import named
from ltx_models.transformer.block import TransformerBlock
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.sweep import BothStreams, SwitchesOf, hidden

Linear = nn.Linear | nn.QuantizedLinear
BLOCKS = "transformer_blocks."


def stream_blocks(model: Transformer, checkpoint: Checkpoint) -> None:
    """Let a model that was just loaded, and not computed with, read its blocks for each sweep.

    Layers that are quantised in the model and not in the checkpoint are quantised at every read,
    which is slow. At most two blocks, and what is read for the second, are in memory at a time.
    """
    disk = _Disk(model, checkpoint)
    model.sweep = disk.sweep
    model.forget = disk.forget


class _Disk:
    """Where the weights of the blocks' linear layers come from, again and again."""

    def __init__(self, model: Transformer, checkpoint: Checkpoint):
        self.file = checkpoint.file
        self.dtype = model.dtype
        self.layers: dict[str, Linear] = {
            path: layer
            for path, layer in model.named_modules()
            if path.startswith(BLOCKS) and isinstance(layer, Linear)
        }
        self.of_block = [
            [path for path in self.layers if path.startswith(f"{BLOCKS}{index}.")]
            for index in range(len(model.transformer_blocks))
        ]
        self.quantises = any(self._is_quantised_here(path) for path in self.layers)
        self.names = [
            f"{path}.{name}" for path in self.layers for name in self._names_in_file(path)
        ]
        self.unread: dict[str, mx.array] = {}

    def sweep(
        self, blocks: Sequence[TransformerBlock], streams: BothStreams, switches: SwitchesOf
    ) -> BothStreams:
        """Through the blocks, one of them evaluated at a time; after the last comes the first."""
        for index, block in enumerate(blocks):
            streams = block(*streams, switches(index))
            mx.async_eval(hidden(streams))
            self._read((index + 1) % len(blocks), streams)
            mx.eval(hidden(streams))
            for path in self.of_block[index]:
                self.forget(path)
        return streams

    def forget(self, path: str) -> None:
        """Put arrays that are not read yet in the place of a layer's; one not streamed stays."""
        if path in self.layers:
            self.layers[path].update(self._fresh(path))

    def _read(self, index: int, before: BothStreams) -> None:
        """Begin to read a block, beside what is computed."""
        layers = [self.layers[path].parameters() for path in self.of_block[index]]
        if not self.quantises:
            mx.async_eval(layers)
            return
        mx.eval(hidden(before))
        for layer in layers:  # in turn, as what a layer is quantised from is several times as large
            mx.eval(layer)

    def _fresh(self, path: str) -> dict[str, mx.array]:
        """Arrays like a layer's present ones that nothing has been read for."""
        names = self._names_in_file(path)
        if any(f"{path}.{name}" not in self.unread for name in names):
            self.unread = self.file.tensors(TRANSFORMER, self.names)
        found = {name: self._cast(self.unread.pop(f"{path}.{name}")) for name in names}
        if self._is_quantised_here(path):
            layer = self.layers[path]
            packed = mx.quantize(
                found["weight"],
                group_size=layer.group_size,
                bits=layer.bits,
                mode=layer.mode or "affine",
            )
            found |= named(packed)
        return found

    def _cast(self, tensor: mx.array) -> mx.array:
        integers = mx.issubdtype(tensor.dtype, mx.integer)  # weights that are stored quantised
        return tensor if integers else tensor.astype(self.dtype)

    def _is_quantised_here(self, path: str) -> bool:
        quantised = isinstance(self.layers[path], nn.QuantizedLinear)
        return quantised and f"{TRANSFORMER}{path}.scales" not in self.file.infos

    def _names_in_file(self, path: str) -> list[str]:
        """The names of a layer's tensors in the file; not those that quantising makes."""
        made = {"scales", "biases"} if self._is_quantised_here(path) else set()
        return [name for name in self.layers[path].parameters() if name not in made]
