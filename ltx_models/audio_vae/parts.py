"""Decoding long sound a few seconds at a time: as it would be at once, in memory that stays small.

A part is computed with so much of what lies around it as its network looks at, which is then left
off; nothing is blended.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, gcd, prod

import mlx.core as mx
import mlx.nn as nn

from ltx_models.audio_vae.bandwidth import ExtendedVocoder
from ltx_models.audio_vae.bigvgan import AMPBlock, BigVGAN
from ltx_models.audio_vae.config import SHRINK
from ltx_models.audio_vae.decoder import AudioDecoder
from ltx_models.audio_vae.snake import NUM_TAPS
from ltx_models.audio_vae.vocoder import HiFiGAN, ResBlock, stages

LATENTS, FRAMES = 75, 300  # of a part, both some three seconds
ACTIVATION = NUM_TAPS // 2  # samples that a BigVGAN's activation looks at on either side


def mel_in_parts(decoder: AudioDecoder, latents: mx.array, *, size: int = LATENTS) -> mx.array:
    """As ``decoder(latents)``: (B, z_channels, T, 16) to log-mel (B, 2, 4 T - 3, 64), evaluated."""
    before, parts = decoder_reach(decoder), []
    for start, stop in _cut(latents.shape[2], size):
        first = max(start - before, 0)
        mel = decoder(latents[:, :, first:stop])
        # The first latent of any part stands for one frame, the last of its own in the whole.
        own = mel[:, :, SHRINK * (start - first) - SHRINK + 1 :] if start else mel
        parts.append(mx.contiguous(own))
        mx.eval(parts[-1])
        del mel, own
    return mx.concatenate(parts, axis=2)


def sound_in_parts(
    vocoder: HiFiGAN | ExtendedVocoder, mel: mx.array, *, size: int = FRAMES
) -> mx.array:
    """As ``vocoder(mel)``: log-mel (B, 2, T, 64) to sound (B, 2, N) in [-1, 1], evaluated."""
    reach, multiple = vocoder_reach(vocoder)
    length, parts = mel.shape[2], []
    for start, stop in _cut(length, size):
        first = max(start - reach, 0) // multiple * multiple
        last = min(stop + reach, length)
        sound = vocoder(mel[:, :, first:last])
        rate = sound.shape[-1] // (last - first)  # samples of a frame
        own = sound[..., (start - first) * rate : (stop - first) * rate]
        parts.append(mx.contiguous(own))
        mx.eval(parts[-1])
        del sound, own
    return mx.concatenate(parts, axis=2)


def decoder_reach(decoder: AudioDecoder) -> int:
    """How many latents before its own a mel frame is made of; of none after it."""
    blocks = [decoder.mid.block_1, decoder.mid.block_2]
    total = Fraction(decoder.conv_in.reach + sum(b.conv1.reach + b.conv2.reach for b in blocks))
    rate = 1
    for level in reversed(decoder.up):
        total += Fraction(sum(b.conv1.reach + b.conv2.reach for b in level.block), rate)
        if "upsample" in level:
            rate *= 2
            total += Fraction(level.upsample.conv.reach, rate)
    return ceil(total + Fraction(decoder.conv_out.reach, rate)) + 1


def vocoder_reach(vocoder: HiFiGAN | ExtendedVocoder) -> tuple[int, int]:
    """How many mel frames on either side of its own a sample is made of, at most.

    And of how many frames a part must be a multiple away from the start: of such as the frames of
    the second spectrum begin with.
    """
    if isinstance(vocoder, HiFiGAN):
        return ceil(_generator_reach(vocoder)), 1
    base, second = vocoder.vocoder, vocoder.mel_stft
    rate = prod(up.rate for up in base.ups)  # samples of a frame
    samples = (ceil(_generator_reach(vocoder.bwe_generator)) + 1) * second.hop_length
    more = Fraction(samples + second.n_fft, rate)
    return ceil(_generator_reach(base) + more), second.hop_length // gcd(rate, second.hop_length)


def _generator_reach(generator: HiFiGAN | BigVGAN) -> Fraction:
    """In frames of the spectrum that it reads."""
    total, rate = Fraction(generator.conv_pre.padding), 1
    for up, blocks in stages(generator.ups, generator.resblocks):
        total += Fraction(-(-up.weight.shape[1] // up.rate), rate)
        rate *= up.rate
        total += Fraction(max(_block_reach(block) for block in blocks), rate)
    last = ACTIVATION if isinstance(generator, BigVGAN) else 0
    return total + Fraction(generator.conv_post.padding + last, rate)


def _block_reach(block: nn.Module) -> int:
    assert isinstance(block, ResBlock | AMPBlock)
    activations = 2 * len(block.convs1) if isinstance(block, AMPBlock) else 0
    convolutions = sum(conv.padding for conv in (*block.convs1, *block.convs2))
    return convolutions + ACTIVATION * activations


def _cut(length: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, size):
        yield start, min(start + size, length)
