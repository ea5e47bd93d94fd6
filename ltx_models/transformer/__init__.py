"""The diffusion transformer; ``load_transformer`` builds it from a checkpoint."""

import mlx.core as mx

from ltx_models.checkpoint import CONNECTORS, TRANSFORMER, Checkpoint
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Transformer
from ltx_models.weights import shapes


def load_transformer(
    checkpoint: Checkpoint, *, dtype: mx.Dtype, streams: Streams = BOTH
) -> Transformer:
    """The transformer with the weights of its streams; the other stream's are not read.

    Raises WeightsError where a tensor fits nowhere, whichever stream it belongs to.
    """
    config = checkpoint.section("transformer", TransformerConfig)
    model = Transformer(config, streams=streams)
    unused = set()
    if streams != BOTH:
        unused = shapes(Transformer(config)).keys() - shapes(model).keys()
    idle = [*CONNECTORS, *(TRANSFORMER + name for name in unused)]
    return checkpoint.fill(model, {"": TRANSFORMER}, idle=idle, dtype=dtype)
