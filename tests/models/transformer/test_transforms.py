"""A block has the same loss and gradients under each transform of MLX that training uses.

Each of these has a way to go wrong in silence: structs that are dataclasses lose the gradients of
their arrays, ``mx.checkpoint`` those of the weights, and a compiled module keeps its first weights.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from ltx_models.transformer.block import Stream, Switches, TransformerBlock
from ltx_models.transformer.model import BOTH, Transformer
from tests.models.transformer.sizes import CONFIGS, small_modality, small_transformer


def entered(model: Transformer) -> list[Stream]:
    """What the model gives its first block: two samples, of tokens with two noise levels."""
    mixed = np.array([[0.7] * 8 + [0.0] * 4, [0.3] * 12])
    given = {
        "video": small_modality(model, "video", batch=2, timesteps=mixed),
        "audio": small_modality(model, "audio", batch=2),
    }
    streams: list[Stream] = []

    class First(TransformerBlock):
        def __call__(self, video, audio, switches):
            streams.extend([video, audio])
            return video, audio

    blocks = model.transformer_blocks
    model.transformer_blocks = [First(model.config, streams=BOTH)]
    model(given["video"], given["audio"])
    model.transformer_blocks = blocks
    mx.eval(streams)
    return streams


def loss_of(block, streams: list[Stream]) -> mx.array:
    video, audio = block(*streams, Switches())
    return video.x.square().mean() + audio.x.square().mean()


@pytest.fixture(params=CONFIGS)
def parts(request) -> tuple[TransformerBlock, list[Stream]]:
    model = small_transformer(request.param)
    return model.transformer_blocks[0], entered(model)


def test_checkpointing_keeps_loss_and_gradients_of_every_weight(parts):
    block, streams = parts
    expected = nn.value_and_grad(block, lambda: loss_of(block, streams))()
    got = nn.value_and_grad(block, lambda: loss_of(nn.utils.checkpoint(block), streams))()
    for (name, value), (_, wanted) in zip(tree_flatten(got), tree_flatten(expected), strict=True):
        assert mx.allclose(value, wanted, rtol=1e-4, atol=1e-6), name
        assert mx.any(wanted != 0), name


def test_checkpointing_keeps_the_gradients_of_what_streams_hold(parts):
    block, streams = parts

    def loss(run, x):
        return loss_of(run, [streams[0]._replace(x=x), streams[1]])

    expected = mx.grad(partial(loss, block))(streams[0].x)
    got = mx.grad(partial(loss, nn.utils.checkpoint(block)))(streams[0].x)
    assert mx.allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert mx.abs(expected).max() > 1e-4


@pytest.mark.slow  # compiling calls a C++ compiler
def test_a_compiled_step_follows_its_weights(parts):
    block, streams = parts
    start = tree_map(lambda x: x + 0, block.parameters())
    expected = _train(block, streams, lambda step, state: step)
    block.update(start)
    got = _train(block, streams, lambda step, state: mx.compile(step, inputs=state, outputs=state))
    assert expected[0] > expected[-1]
    assert got == pytest.approx(expected, rel=1e-4)
    # What a step without outputs=state leaves behind cannot be computed with.
    assert loss_of(block, streams).item() < got[-1]


def _train(block: TransformerBlock, streams: list[Stream], transform) -> list[float]:
    """The losses of three steps of descent."""
    optimizer = mlx.optimizers.SGD(learning_rate=0.01)
    step = nn.value_and_grad(block, lambda streams: loss_of(block, streams))

    def update(streams: list[Stream]) -> mx.array:
        loss, grads = step(streams)
        optimizer.update(block, grads)
        return loss

    run = transform(update, [block.state, optimizer.state])
    losses = []
    for _ in range(3):
        losses.append(run(streams).item())
        mx.eval(block.parameters())
    return losses
