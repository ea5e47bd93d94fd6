"""What the transformer is told of each sample: its text features through the connectors.

A context has 1024 places however short its caption is: 12 MB with both streams of LTX-2.3 in
bfloat16. The connectors are 4 GB, and take 2 % of a step's time. So the contexts of a few hundred
samples are made once and kept; of more, the connectors are kept, and a context is made when its
turn comes. Either way each is computed alone, so that the numbers are the same.
"""

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.progress import Report
from ltx_models.checkpoint import Checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.text_encoder import PromptContext
from ltx_models.text_encoder.connector import MAX_LENGTH, Connector, load_connectors
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_models.weights import shapes
from ltx_train.data.batches import Contexts
from ltx_train.data.dataset import Dataset
from ltx_train.data.layout import EMPTY_PROMPT
from ltx_train.data.samples import Sample, SampleFile, read_features

NO_CAPTION = ""  # no sample is called so
ALWAYS_KEPT = 1 << 30  # bytes of contexts, however small the connectors are


class ContextSizes(NamedTuple):
    """Bytes of one context, and of the connectors that make it."""

    each: int
    connectors: int
    always_kept: int = ALWAYS_KEPT

    def are_kept(self, count: int) -> bool:
        """Whether so many contexts are kept, in place of the connectors."""
        return count * self.each <= max(self.connectors, self.always_kept)

    def of(self, count: int) -> int:
        """What is in memory for so many contexts."""
        return count * self.each if self.are_kept(count) else self.connectors


def context_sizes(config: TransformerConfig, streams: Streams, *, dtype: mx.Dtype) -> ContextSizes:
    """From shapes alone."""
    sizes = {"video": config.connector, "audio": config.audio_connector}
    width = sum(sizes[name].dim for name in streams)
    weights = [shapes(Connector(config, sizes[name])).values() for name in streams]
    return ContextSizes(
        each=MAX_LENGTH * width * dtype.size,
        connectors=sum(prod(shape) for each in weights for shape in each) * dtype.size,
    )


def caption_files(dataset: Dataset, *, dropout: float) -> dict[str, SampleFile]:
    """The text features of a run by sample, and those of no caption where it drops some.

    Raises UserError where these are not there.
    """
    files = {sample.name: sample.conditions for sample in dataset.samples}
    if dropout:
        if dataset.empty_prompt is None:
            raise UserError(
                "training_strategy.caption_dropout: the data have no text features of the empty "
                f"prompt ({EMPTY_PROMPT}).\nRun ltx-precompute again; it makes what is missing"
            )
        files[NO_CAPTION] = dataset.empty_prompt
    return files


def make_contexts(
    checkpoint: Checkpoint,
    files: Mapping[str, SampleFile],
    streams: Streams,
    *,
    report: Report,
    always_kept: int = ALWAYS_KEPT,
) -> Contexts:
    """A function from a sample, or None for no caption, to its context, evaluated."""
    dtype = compute_dtype()
    connectors = load_connectors(checkpoint, dtype=dtype)

    def made(file: SampleFile) -> PromptContext:
        features = read_features(file)
        # The stream that the run does not have is not asked for, and its connector never read.
        video = connectors.video(features.video[None]) if "video" in streams else None
        sound = connectors.audio(features.audio[None]) if "audio" in streams else None
        context = PromptContext(video if video is not None else mx.zeros((1, 0, 0)), sound)
        mx.eval(context)
        return context

    config = checkpoint.section("transformer", TransformerConfig)
    sizes = context_sizes(config, streams, dtype=dtype)._replace(always_kept=always_kept)
    if not sizes.are_kept(len(files)):
        return lambda sample: made(files[_name(sample)])
    kept = {}
    for number, (name, file) in enumerate(files.items(), 1):
        kept[name] = made(file)
        report("text", number, len(files))
    return lambda sample: kept[_name(sample)]


def _name(sample: Sample | None) -> str:
    return NO_CAPTION if sample is None else sample.name
