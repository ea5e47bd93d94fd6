"""Whether a run fits this machine's memory, before anything large is read."""

from collections.abc import Iterable
from typing import NamedTuple, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.transformer.model import Transformer
from ltx_train.config import TrainConfig
from ltx_train.data.batches import streams
from ltx_train.data.samples import Sample
from ltx_train.memory.activations import Shapes, StreamShape, count_activations
from ltx_train.memory.merges import count_merges

GB = 1e9
MASTER = 4  # bytes of a trained value, whatever the base is in
# Of what is trained: the new weights and moments beside the old ones, and gradients on their way.
OF_UPDATE, OF_GRADIENTS = 3.5, 0.4


class Plan(NamedTuple):
    """Bytes, at the moment when the most is held."""

    weights: int  # of the base
    state: int  # trained weights, their moments and their average
    contexts: int  # or the connectors that make them
    step: int  # activations, gradients, new state
    encoder: int = 0  # alone, before all else: the text encoder of the validation's prompts

    @property
    def training(self) -> int:
        """All that is held at once in a step."""
        return self.weights + self.state + self.contexts + self.step

    @property
    def total(self) -> int:
        """The most at any time."""
        return max(self.training, self.encoder)

    def __str__(self) -> str:
        """As a person reads it."""
        parts = {
            "weights": self.weights,
            "what is trained, with its optimizer": self.state,
            "contexts": self.contexts,
            "a step": self.step,
        }
        said = ", ".join(f"{name} {size / GB:.2f}" for name, size in parts.items())
        before = f"; before that the text encoder, {self.encoder / GB:.2f}" if self.encoder else ""
        return f"{self.training / GB:.2f} GB: {said}{before}"


def make_plan(
    model: Transformer,
    config: TrainConfig,
    batches: Iterable[Shapes],
    *,
    dtype: mx.Dtype,
    contexts: int,
    encoder: int = 0,
) -> Plan:
    """The plan of a model of which only the shapes are there; ``batches`` are all that there are.

    ``dtype`` is what the base computes in; ``contexts`` and ``encoder`` are bytes.
    """
    trained = sum(x.size for x in _leaves(model.trainable_parameters()))
    full, averaged = config.lora is None, config.optimization.ema_decay is not None
    weights = _num_bytes(model, dtype)
    if not full or dtype == mx.float32:
        weights -= trained * dtype.size  # the state has them; it is float32
    recompute = config.optimization.enable_gradient_checkpointing
    values = max(
        count_activations(model, shapes, full=full).most(recompute=recompute) for shapes in batches
    )
    merges = sum(count_merges(model, recompute=recompute))
    backward = values * dtype.size + OF_GRADIENTS * trained * MASTER + merges
    update = (OF_UPDATE + averaged) * trained * MASTER
    accumulated = trained * MASTER if config.optimization.gradient_accumulation_steps > 1 else 0
    return Plan(
        weights=weights,
        state=trained * MASTER * (3 + averaged),
        contexts=contexts,
        step=int(max(backward, update)) + accumulated,
        encoder=encoder,
    )


def batch_shapes(samples: Iterable[Sample], config: TrainConfig) -> list[Shapes]:
    """The shapes of batches, each once."""
    different = {sample.shapes: sample for sample in samples}
    return [stream_shapes(sample, config) for sample in different.values()]


def stream_shapes(sample: Sample, config: TrainConfig) -> Shapes:
    """The streams of a batch of samples like this one, with their references."""
    shapes: Shapes = {}
    for name, stream in streams(config.training_strategy).items():
        shown = [f"{name}", f"{name}_reference"]
        parts = [part for part in sample.parts.values() if part.role in shown]
        shapes[name] = StreamShape(
            batch=config.optimization.batch_size,
            num_tokens=sum(part.num_tokens for part in parts),
            num_context=MAX_LENGTH,
            per_token=bool(stream.conditions),
        )
    return shapes


def _num_bytes(model: Transformer, dtype: mx.Dtype) -> int:
    """In the base's type, but for what is packed into integers."""
    return sum(
        x.nbytes if mx.issubdtype(x.dtype, mx.integer) else x.size * dtype.size
        for x in _leaves(model.parameters())
    )


def _leaves(parameters: object) -> list[mx.array]:
    return [x for _, x in cast(list[tuple[str, mx.array]], tree_flatten(parameters))]
