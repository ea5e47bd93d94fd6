"""Latent upsamplers, each in a file of its own (spec/model.md part 7).

They work on un-normalised video latents: twice or 1.5 times the height and width, or twice the
frames. Inside everything is channels-last, (B, F, H, W, C).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from ltx_models.activations import silu
from ltx_models.config import ConfigError, LayerCount, Section, parse_object
from ltx_models.statistics import PerChannelStatistics
from ltx_models.video_vae.layers import depth_to_space
from ltx_models.weights import TensorFile, WeightsError, load_weights

NUM_GROUPS = 32
RATIOS = {0.75: (3, 4), 1.5: (3, 2), 2.0: (2, 1), 4.0: (4, 1)}  # scale: (shuffled up, blurred down)
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
PLAIN_KEY, RATIONAL_KEY = "upsampler.0.weight", "upsampler.conv.weight"
BLUR_KEY = "upsampler.blur_down.kernel"


class UpsamplerConfig(Section):
    """An upsampler's configuration, which its file's metadata hold without sections."""

    constants: ClassVar[Mapping[str, Any]] = {"_class_name": "LatentUpsampler", "dims": 3}

    in_channels: PositiveInt = 128
    mid_channels: Annotated[int, Field(gt=0, multiple_of=NUM_GROUPS)] = 512
    num_blocks_per_stage: LayerCount = 4
    spatial_upsample: bool = True
    temporal_upsample: bool = False
    spatial_scale: PositiveFloat = 2.0
    rational_resampler: bool = False


class ResBlock(nn.Module):
    """Convolution and group norm twice, with a SiLU between them and one of the sum with x."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = _group_norm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = _group_norm(channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, C) to the same shape."""
        h = silu(self.norm1(self.conv1(x)))
        return silu(self.norm2(self.conv2(h)) + x)


class RationalResampler(nn.Module):
    """``up`` times the height and width by pixel shuffle, then blurred and every ``down``-th."""

    def __init__(self, channels: int, *, up: int, down: int):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, up**2 * channels, 3, padding=1)
        self.blur_down = _BlurDown(down) if down > 1 else None

    def __call__(self, x: mx.array) -> mx.array:
        """(B, F, H, W, C) to (B, F, H', W', C), H' = ceil(H * up / down)."""
        x = depth_to_space(_each_frame(self.conv, x), (1, self.up, self.up))
        return x if self.blur_down is None else _each_frame(self.blur_down, x)


class _BlurDown(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride
        # Stored in the file, as (1, 1, 5, 5), but no weight: what every channel is blurred with.
        self.kernel = mx.array(np.outer(BINOMIAL, BINOMIAL).astype(np.float32))[None, None]
        self.freeze(keys="kernel")

    def __call__(self, x: mx.array) -> mx.array:
        channels = x.shape[-1]
        kernel = mx.broadcast_to(self.kernel.moveaxis(1, -1), (channels, 5, 5, 1))
        return mx.conv2d(x, kernel, stride=self.stride, padding=2, groups=channels)


class LatentUpsampler(nn.Module):
    """Residual blocks at the old size, a resampler, residual blocks at the new size.

    Raises ConfigError for what is neither of space nor of time, and for scales not in RATIOS.
    """

    def __init__(self, config: UpsamplerConfig):
        super().__init__()
        channels = config.mid_channels
        blocks = range(config.num_blocks_per_stage)
        self.config = config
        self.initial_conv = nn.Conv3d(config.in_channels, channels, 3, padding=1)
        self.initial_norm = _group_norm(channels)
        self.res_blocks = [ResBlock(channels) for _ in blocks]
        self.upsampler = _resampler(config)
        self.post_upsample_res_blocks = [ResBlock(channels) for _ in blocks]
        self.final_conv = nn.Conv3d(channels, config.in_channels, 3, padding=1)

    def __call__(self, latents: mx.array) -> mx.array:
        """Un-normalised latents (B, C, F, H, W) to (B, C, F', H', W').

        Height and width times the scale, rounded up; or F' = 2F - 1 and the rest as it was.
        """
        x = latents.astype(self.initial_conv.weight.dtype).moveaxis(1, -1)
        x = silu(self.initial_norm(self.initial_conv(x)))
        for block in self.res_blocks:
            x = block(x)
        x = self._resample(x)
        for block in self.post_upsample_res_blocks:
            x = block(x)
        return self.final_conv(x).moveaxis(-1, 1)

    def _resample(self, x: mx.array) -> mx.array:
        if isinstance(self.upsampler, RationalResampler):
            return self.upsampler(x)
        (conv,) = self.upsampler
        if self.config.temporal_upsample:
            return depth_to_space(conv(x), (2, 1, 1))[:, 1:]
        return depth_to_space(_each_frame(conv, x), (1, 2, 2))


def upsample(
    upsampler: LatentUpsampler, latents: mx.array, *, statistics: PerChannelStatistics
) -> mx.array:
    """Normalised latents to normalised latents, by way of the un-normalised ones; shapes as there.

    ``statistics`` are the video VAE's.
    """
    raw = upsampler(statistics.un_normalize(latents, axis=1))
    return statistics.normalize(raw, axis=1)


def load_upsampler(path: Path, *, dtype: mx.Dtype) -> LatentUpsampler:
    """An upsampler from its file, with its weights as ``dtype``.

    Raises WeightsError for a file that is none, and ConfigError where it cannot be told which.
    """
    file = TensorFile(path)
    if missing := {"initial_conv.weight", "final_conv.weight"} - file.infos.keys():
        raise WeightsError(f"{path}: not a latent upsampler: it has no {min(missing)}")
    upsampler = LatentUpsampler(read_upsampler_config(file))
    resampler = upsampler.upsampler
    unblurred = isinstance(resampler, RationalResampler) and resampler.blur_down is None
    unused = {BLUR_KEY} if unblurred else set()  # files may hold a blur that their scale lacks
    names = [name for name in file.infos if name not in unused]
    load_weights(upsampler, file.tensors("", names), source=str(path), dtype=dtype)
    return upsampler


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NUM_GROUPS, channels, pytorch_compatible=True)


def _each_frame(layer: nn.Module, x: mx.array) -> mx.array:
    """A layer of pictures (N, H, W, C) on every frame of (B, F, H, W, C)."""
    return mx.unflatten(layer(x.flatten(0, 1)), 0, x.shape[:2])


def _resampler(config: UpsamplerConfig) -> list[nn.Module] | RationalResampler:
    """The layer or layers under the key ``upsampler``; a list, where the key goes on with a 0."""
    channels, scale = config.mid_channels, config.spatial_scale
    if config.spatial_upsample == config.temporal_upsample:
        raise ConfigError(
            f"config: spatial_upsample and temporal_upsample are both {config.spatial_upsample}; "
            "an upsampler of one of them is computed here"
        )
    if config.temporal_upsample:
        return [nn.Conv3d(channels, 2 * channels, 3, padding=1)]
    if config.rational_resampler and scale in RATIOS:
        up, down = RATIOS[scale]
        return RationalResampler(channels, up=up, down=down)
    if config.rational_resampler or scale != 2:
        known = ", ".join(map(str, RATIOS)) if config.rational_resampler else "2.0"
        raise ConfigError(
            f"config.spatial_scale: {scale}, but only {known} is computed here "
            f"with rational_resampler {config.rational_resampler}"
        )
    return [nn.Conv2d(channels, 4 * channels, 3, padding=1)]


def read_upsampler_config(file: TensorFile) -> UpsamplerConfig:
    """An upsampler's sizes: from the metadata, else the tensors; of twice the size from both.

    Files of that scale are in circulation in both layouts, whatever their configuration says.
    """
    if "config" not in file.metadata:
        return _recognise(file)
    data = parse_object(file.metadata["config"], at=f"{file.path}: its metadata's config")
    config = UpsamplerConfig.read(data, at=f"{file.path.name}: config")
    if config.temporal_upsample or config.spatial_scale != 2:
        return config
    return config.model_copy(update={"rational_resampler": RATIONAL_KEY in file.infos})


def _recognise(file: TensorFile) -> UpsamplerConfig:
    shape = file.infos["initial_conv.weight"].shape
    if len(shape) != 5:
        raise WeightsError(f"{file.path}: not a latent upsampler: its initial_conv is {shape}")
    channels, in_channels = shape[:2]
    plain, rational = file.infos.get(PLAIN_KEY), file.infos.get(RATIONAL_KEY)
    temporal = plain is not None and len(plain.shape) == 5
    scales = [2.0]
    if rational is not None:
        scales = [s for s, (up, _) in RATIOS.items() if rational.shape[:1] == (up**2 * channels,)]
    if len(scales) != 1:
        raise ConfigError(
            f"{file.path}: its metadata has no config, and its tensors fit the scales "
            f"{' and '.join(map(str, scales)) or 'of no upsampler'}\nFetch the original file."
        )
    blocks = {key.split(".")[1] for key in file.infos if key.startswith("res_blocks.")}
    found = {
        "in_channels": in_channels,
        "mid_channels": channels,
        "num_blocks_per_stage": len(blocks),
        "spatial_upsample": not temporal,
        "temporal_upsample": temporal,
        "spatial_scale": scales[0],
        "rational_resampler": rational is not None,
    }
    return UpsamplerConfig.read(found, at=f"{file.path.name}: tensors")
