"""Ways through the blocks: in one graph, again for gradients, or a few blocks at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mlx.core as mx
from mlx.nn.utils import checkpoint

from ltx_models.transformer.block import Stream, Switches, TransformerBlock

if TYPE_CHECKING:
    from ltx_models.transformer.model import Transformer

BothStreams = tuple[Stream | None, Stream | None]
SwitchesOf = Callable[[int], Switches]  # what a block computes, by its number
Sweep = Callable[[Sequence[TransformerBlock], BothStreams, SwitchesOf], BothStreams]

# Operations between two waits for a Metal GPU: two seconds or less on the slowest one.
MOST_OPERATIONS = 4e12


def straight(
    blocks: Sequence[TransformerBlock], streams: BothStreams, switches: SwitchesOf
) -> BothStreams:
    """One block after the other; nothing is evaluated."""
    for index, block in enumerate(blocks):
        streams = block(*streams, switches(index))
    return streams


def recomputed(
    blocks: Sequence[TransformerBlock], streams: BothStreams, switches: SwitchesOf
) -> BothStreams:
    """``straight`` with each block's input alone kept for gradients, and the block computed twice.

    The hidden states alone pass through: whatever else a checkpointed function returned would have
    a gradient computed for it in every block before.
    """
    for index, block in enumerate(blocks):
        run = checkpoint(block, _hidden_of(block))
        streams = with_hidden(streams, run(*streams, switches(index)))
    return streams


def in_pieces(most: float = MOST_OPERATIONS) -> Sweep:
    """``straight`` with a wait after so many blocks as take ``most`` operations, for inference."""

    def sweep(
        blocks: Sequence[TransformerBlock], streams: BothStreams, switches: SwitchesOf
    ) -> BothStreams:
        at_once = max(int(most / operations(streams)), 1)
        for index, block in enumerate(blocks):
            streams = block(*streams, switches(index))
            if (index + 1) % at_once == 0:
                mx.eval(hidden(streams))
        return streams

    return sweep


def operations(streams: BothStreams) -> float:
    """About how many additions and multiplications a block takes.

    Its weights are some 16 squares of the width; self-attention goes by the square of the tokens.
    """
    total = 0.0
    for stream in streams:
        if stream is not None:
            batch, tokens, width = stream.x.shape
            total += batch * tokens * (2 * 16 * width**2 + 4 * tokens * width)
    return total


@contextmanager
def bounded(model: "Transformer") -> Iterator[None]:
    """On Metal, let no evaluation of the model run for long, until the block ends.

    macOS stops work that keeps the GPU from the display. A model that is streamed is bounded as it
    is; elsewhere than on Metal nothing changes.
    """
    before = model.sweep
    if before in (straight, recomputed) and mx.metal.is_available():
        model.sweep = in_pieces()
    try:
        yield
    finally:
        model.sweep = before


def hidden(streams: BothStreams) -> list[mx.array]:
    """The hidden states (B, T, C) of the streams that are there."""
    return [stream.x for stream in streams if stream is not None]


def with_hidden(streams: BothStreams, states: Sequence[mx.array | None]) -> BothStreams:
    """The streams with other hidden states; None where there is no stream."""
    video, audio = (
        None if stream is None or x is None else stream._replace(x=x)
        for stream, x in zip(streams, states, strict=True)
    )
    return video, audio


def _hidden_of(block: TransformerBlock) -> Callable[..., list[mx.array | None]]:
    def run(video: Stream | None, audio: Stream | None, switches: Switches):
        return [None if stream is None else stream.x for stream in block(video, audio, switches)]

    return run
