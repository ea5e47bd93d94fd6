"""How far the video decoder looks: which latents a frame and a pixel are made of."""

from collections.abc import Iterator
from typing import NamedTuple

from ltx_models.video_vae.config import Block, VideoVAEConfig

FAR = 1 << 20  # a latent with more on both sides of it than any decoder looks at


class Reach(NamedTuple):
    """Of how many latents before and after its own something is made."""

    before: int
    after: int


class ReceptiveField(NamedTuple):
    """What one latent's frames are made of, and one latent's rows, or columns, of pixels."""

    time: Reach
    space: Reach


class _Step(NamedTuple):
    """A convolution over three places, or (with a stride) that many places in each one's stead."""

    stride: tuple[int, int] | None = None  # in time and in space


def sees_all(config: VideoVAEConfig) -> bool:
    """Whether a norm of the decoder is over all frames and pixels, as of a block that narrows."""
    return any(block.name == "res_x_y" and block.multiplier != 1 for block in config.decoder_blocks)


def receptive_field(config: VideoVAEConfig) -> ReceptiveField | None:
    """What the decoder looks at; None where it looks at everything.

    A frame on which the padding at the end of a tile bears is counted as made of what lies beyond.
    """
    if sees_all(config):
        return None
    time, space = config.scale
    # The frames of latent k are the last ones of k * time; its pixels begin at k * space.
    frames = _needed(config, 0, (FAR - 1) * time + 1, FAR * time)
    pixels = _needed(config, 1, FAR * space, (FAR + 1) * space - 1)
    return ReceptiveField(*(Reach(FAR - first, last - FAR) for first, last in (frames, pixels)))


def _needed(config: VideoVAEConfig, axis: int, first: int, last: int) -> tuple[int, int]:
    """The latents that places ``first`` to ``last`` of the output need along time (0) or space."""
    in_time = axis == 0
    for step in reversed(list(_steps(config))):
        if step.stride is None:
            causal = in_time and config.causal_decoder
            first, last = first - (2 if causal else 1), last + (0 if causal else 1)
            continue
        stride = step.stride[axis]
        if in_time and stride == 2:
            last += 1  # the first frame of what doubling gives is dropped; a tile drops one, too
        first, last = first // stride, last // stride
    return first, last


def _steps(config: VideoVAEConfig) -> Iterator[_Step]:
    """What the decoder does, from latents to pixels."""
    yield _Step()
    for block in reversed(config.decoder_blocks):
        yield from _steps_of(block)
    yield _Step()
    yield _Step((1, config.patch_size))


def _steps_of(block: Block) -> Iterator[_Step]:
    if block.name.startswith("res_x"):
        yield from [_Step()] * (2 * block.num_layers)
    else:
        yield _Step()
        yield _Step(block.stride[:2])
