"""What each network but the transformer takes: its weights, and what is there while it computes."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import mlx.core as mx
import mlx.nn as nn

from ltx_infer.plan.decode import LatentSize, decode_bytes
from ltx_infer.plan.networks import STORED, as_type, num_bytes
from ltx_infer.plan.peak import Pace, peak
from ltx_infer.plan.tape import Tape, trace, with_reading
from ltx_models.audio_vae import AudioDecoder, AudioVAEConfig, ExtendedVocoder, HiFiGAN, Vocoder
from ltx_models.audio_vae.config import (
    SHRINK,
    VOCODER_MEL_BINS,
    ExtendedVocoderConfig,
    HiFiGANConfig,
)
from ltx_models.audio_vae.encoder import AudioEncoder
from ltx_models.audio_vae.parts import FRAMES, LATENTS, decoder_reach, vocoder_reach
from ltx_models.checkpoint import Checkpoint
from ltx_models.config import Section
from ltx_models.upsampler import LatentUpsampler
from ltx_models.video_vae import VideoDecoder, VideoEncoder, VideoVAEConfig
from ltx_models.video_vae.frames import TilingName
from ltx_models.video_vae.tiling import auto_tiling, split_axes, to_frames

S = TypeVar("S", bound=Section)

FLOAT = 4  # bytes of a pixel's or a sample's number
STRIDE = 64  # to which a spectrum's length is rounded up, so that few lengths are traced
MEL_RATE = 100  # frames of a spectrum in a second


class Part(NamedTuple):
    """Bytes of one part of a run, at the moment when it takes the most."""

    name: str
    weights: int
    work: int  # activations, and what is kept for them

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.work


class _Section(NamedTuple):
    """Of a checkpoint's configuration, as what is known of it can be kept by."""

    text: str
    allow_unknown: tuple[str, ...]

    @property
    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return json.loads(self.text)

    def read(self, cls: type[S]) -> S:
        """As ``Checkpoint.section``."""
        return cls.read(self.data, allow_unknown=self.allow_unknown)


class On(NamedTuple):
    """What a network computes in, and where."""

    dtype: mx.Dtype
    pace: Pace


def work_of(module: nn.Module, tape: Tape, on: On, *, once: bool = False) -> int:
    """Beside the weights, which are read while a network is used for the first time.

    ``once``: the only time; what is computed first is let go of before the last weights are there.
    """
    widened = on.dtype.size != STORED  # else weights are read into their places
    reading = with_reading(tape, dict.fromkeys(tape.weights, STORED) if widened else {})
    first = peak(reading, pace=on.pace) - num_bytes(module) if once or widened else 0
    return first if once else max(first, peak(tape, pace=on.pace))


def decode_part(checkpoint: Checkpoint, size: LatentSize, tiling: TilingName, on: On) -> Part:
    """The picture of latents of a size."""
    return _decode(_section(checkpoint, "vae"), size, tiling, on)


@cache
def _decode(section: _Section, size: LatentSize, tiling: TilingName, on: On) -> Part:
    config = section.read(VideoVAEConfig)
    decoder = as_type(VideoDecoder(config), on.dtype)
    work = decode_bytes(decoder, size, tiling, dtype=on.dtype, pace=on.pace)
    latents = FLOAT * config.latent_channels * size[0] * size[1] * size[2]
    return Part("decode", num_bytes(decoder), work + 2 * latents)


def encode_part(checkpoint: Checkpoint, sizes: Sequence[tuple[int, int, int]], on: On) -> Part:
    """Pictures and clips that are given: frames, pixel rows and columns of each."""
    return _encode(_section(checkpoint, "vae"), tuple(dict.fromkeys(sizes)), on)


@cache
def _encode(section: _Section, sizes: tuple[tuple[int, int, int], ...], on: On) -> Part:
    encoder = as_type(VideoEncoder(section.read(VideoVAEConfig)), on.dtype)
    (time, space), channels = encoder.config.scale, encoder.config.in_channels
    work = 0
    for frames, height, width in sizes:
        grid = ((frames - 1) // time + 1, height // space, width // space)
        tiling = auto_tiling(*grid[1:], scale=encoder.config.scale)
        stretches, rows, columns = split_axes(tiling, grid, encoder.config.scale)
        spans = [to_frames(each, time).span for each in stretches]
        tile = (
            max(span.stop - span.start for span in spans),
            space * max(each.stop - each.start for each in rows),
            space * max(each.stop - each.start for each in columns),
        )
        tape = trace(encoder, lambda x: encoder(x), mx.zeros((1, channels, *tile)))
        own = work_of(encoder, tape, on)
        work = max(work, own + FLOAT * channels * frames * height * width)
    return Part("pictures", num_bytes(encoder), work)


def upscale_part(upscaler: LatentUpsampler, size: LatentSize, on: On) -> Part:
    """From latents of a size to larger ones."""
    as_type(upscaler, on.dtype)
    latents = mx.zeros((1, upscaler.config.in_channels, *size))
    tape = trace(upscaler, lambda x: upscaler(x), latents)
    return Part("upscale", num_bytes(upscaler), work_of(upscaler, tape, on) + 2 * latents.nbytes)


def given_sound_part(checkpoint: Checkpoint, seconds: float, on: On) -> Part:
    """Sound that is given, which is encoded as a whole."""
    config = checkpoint.section("audio_vae", AudioVAEConfig)
    scale, bins = config.scale, config.ddconfig.mel_bins
    length = max(round(seconds * scale.sampling_rate / scale.hop_length), 1)
    encoder = as_type(AudioEncoder(config), on.dtype)
    mel = mx.zeros((1, config.ddconfig.in_channels, length, bins))
    tape = trace(encoder, lambda x: encoder(x), mel)
    # The spectrum's windows overlap, and are there as numbers and as complex ones.
    windows = 4 * FLOAT * 2 * length * config.preprocessing.stft.filter_length
    return Part("given sound", num_bytes(encoder), max(work_of(encoder, tape, on), windows))


def sound_parts(checkpoint: Checkpoint, num_latents: int, on: On) -> list[Part]:
    """A spectrum from latents, and sound from the spectrum, both a few seconds at a time."""
    sections = _section(checkpoint, "audio_vae"), _section(checkpoint, "vocoder")
    return [_spectrum(sections[0], num_latents, on), _sound(sections[1], num_latents, on)]


@cache
def _spectrum(section: _Section, num_latents: int, on: On) -> Part:
    config = section.read(AudioVAEConfig)
    decoder = as_type(AudioDecoder(config), on.dtype)
    length = min(num_latents, LATENTS + decoder_reach(decoder))
    latents = mx.zeros((1, config.ddconfig.z_channels, length, config.latent_mel_bins))
    tape = trace(decoder, lambda x: decoder(x), latents)
    return Part("sound spectrum", num_bytes(decoder), work_of(decoder, tape, on))


@cache
def _sound(section: _Section, num_latents: int, on: On) -> Part:
    vocoder = _vocoder(section)
    length = SHRINK * num_latents - SHRINK + 1
    reach, multiple = vocoder_reach(vocoder)
    frames = min(-(-length // STRIDE) * STRIDE, FRAMES + 2 * reach + multiple)
    call: Callable[[mx.array], mx.array] = vocoder.__call__
    tape = trace(vocoder, call, mx.zeros((1, 2, frames, VOCODER_MEL_BINS)))
    waveform = 2 * FLOAT * length * vocoder.sampling_rate // MEL_RATE
    work = peak(tape, pace=on.pace)  # beside which reading the weights is little
    return Part("sound", num_bytes(vocoder), work + 2 * waveform)


def _vocoder(section: _Section) -> Vocoder:
    if "bwe" in section.data:
        return ExtendedVocoder(section.read(ExtendedVocoderConfig))
    return HiFiGAN(section.read(HiFiGANConfig))


def _section(checkpoint: Checkpoint, name: str) -> _Section:
    text = json.dumps(checkpoint.config[name], sort_keys=True)
    return _Section(text, tuple(checkpoint.allow_unknown))
