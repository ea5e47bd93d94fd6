"""The diffusion transformer; ``load_transformer`` builds it from a checkpoint."""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.checkpoint import Checkpoint
from ltx_models.compensate.linear import A, make_compensated
from ltx_models.converted.layout import CONNECTORS, TRANSFORMER
from ltx_models.quantize import make_quantised
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Transformer
from ltx_models.weights import WeightsError, shapes


def load_transformer(
    checkpoint: Checkpoint, *, dtype: mx.Dtype, streams: Streams = BOTH
) -> Transformer:
    """The transformer with the weights of its streams; the other stream's are not read.

    Layers are quantised, and compensated, as the checkpoint has them. Raises WeightsError where a
    tensor fits nowhere, whichever stream it belongs to.
    """
    config = checkpoint.section("transformer", TransformerConfig)
    model = _made(config, streams, checkpoint)
    unused = set()
    if streams != BOTH:
        unused = shapes(empty_transformer(checkpoint)).keys() - shapes(model).keys()
    idle = [*CONNECTORS, *(TRANSFORMER + name for name in unused)]
    return checkpoint.fill(model, {"": TRANSFORMER}, idle=idle, dtype=dtype)


def empty_transformer(checkpoint: Checkpoint) -> Transformer:
    """A transformer with the checkpoint's kinds of layers, and no weights of its."""
    return _made(checkpoint.section("transformer", TransformerConfig), BOTH, checkpoint)


def _made(config: TransformerConfig, streams: Streams, checkpoint: Checkpoint) -> Transformer:
    model = Transformer(config, streams=streams)
    linear = {path: x for path, x in model.named_modules() if isinstance(x, nn.Linear)}
    stored = {path: how for path, how in checkpoint.quantization.items() if path in linear}
    for path, how in stored.items():
        if linear[path].weight.shape[1] % how.group_size:
            raise WeightsError(
                f"{checkpoint.file.holder(TRANSFORMER)}: {path} is stored as {how}, which "
                f"{linear[path].weight.shape[1]} inputs are no multiple of"
            )
    make_quantised(model, stored)
    adapters = {p: checkpoint.file.infos.get(f"{TRANSFORMER}{p}.{A}") for p in stored}
    make_compensated(
        model, {p: x.shape[0] for p, x in adapters.items() if x is not None and len(x.shape) == 2}
    )
    return model
