"""The section ``vae`` of a checkpoint's configuration (spec/model.md 2.3, 4.1 and 4.2)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, InstanceOf, PositiveInt, model_validator

from ltx_models.config import LARGEST, MOST_LAYERS, Section
from ltx_models.transformer.patchify import VideoScale

Padding = Literal["zeros", "reflect"]

STRIDES = {"space": (1, 2, 2), "time": (2, 1, 1), "all": (2, 2, 2)}  # (frames, height, width)

# The keys that a block of each name may have, with the values of those left out.
_Known = Mapping[str, Mapping[str, Any]]
ENCODER_BLOCKS: _Known = {
    "res_x": {"num_layers": None, "inject_noise": False},
    "res_x_y": {"multiplier": 2, "inject_noise": False},
    **{f"compress_{axes}_res": {"multiplier": 2} for axes in STRIDES},
    **{f"compress_{axes}": {} for axes in STRIDES},
}
DECODER_BLOCKS: _Known = {
    "res_x": {"num_layers": None, "inject_noise": False},
    "res_x_y": {"multiplier": 2, "inject_noise": False},
    **{f"compress_{axes}": {"multiplier": 1, "residual": False} for axes in STRIDES},
}


@dataclass(frozen=True)
class Block:
    """One rung of a ladder, as the configuration's ``[name, parameters]`` says."""

    name: str
    num_layers: int = 1
    multiplier: int = 1
    residual: bool = False
    inject_noise: bool = False

    @property
    def stride(self) -> tuple[int, int, int]:
        """By how much (frames, height, width) shrink in an encoder and grow in a decoder."""
        axes = self.name.removeprefix("compress_").removesuffix("_res")
        return STRIDES.get(axes, (1, 1, 1))


def _read_blocks(data: Any, known: _Known) -> list[Block]:
    if not isinstance(data, list):
        raise ValueError("a list of [name, parameters] is wanted")
    blocks = [_read_block(entry, known, f"block {i}") for i, entry in enumerate(data)]
    if (count := sum(block.num_layers for block in blocks)) > MOST_LAYERS:
        raise ValueError(f"{count} layers in all; at most {MOST_LAYERS} are built")
    return blocks


def _read_block(entry: Any, known: _Known, at: str) -> Block:
    match entry:
        case [str(name), int(num_layers)]:
            given: dict[str, Any] = {"num_layers": num_layers}
        case [str(name), dict(given)]:
            pass
        case _:
            raise ValueError(f"{at} is {entry!r}, [name, parameters] is wanted")
    if name == "attn_res_x":
        raise ValueError(f"{at}: attn_res_x (attention in the VAE) is not computed here")
    if name not in known:
        raise ValueError(f"{at}: unknown block {name!r}; known are {', '.join(known)}")
    if "num_layers" not in known[name] and isinstance(entry[1], int):
        given = {}  # the short form of old files, ["compress_all", 1], where the number is unused
    if strangers := sorted(given.keys() - known[name].keys()):
        raise ValueError(
            f"{at}: unknown key {strangers[0]!r} of {name}; "
            f"known are {', '.join(known[name]) or 'none'}"
        )
    block = Block(name, **{**known[name], **given})
    _check_block(block, at)
    return block


def _check_block(block: Block, at: str) -> None:
    for key in ("num_layers", "multiplier"):
        value = getattr(block, key)
        if type(value) is not int or value < 1:
            raise ValueError(f"{at}: {key} of {block.name} is {value!r}, a count is wanted")
    if block.inject_noise is not False:
        raise ValueError(f"{at}: inject_noise of {block.name} is on, which is not computed here")
    if type(block.residual) is not bool:
        raise ValueError(f"{at}: residual of {block.name} is {block.residual!r}, not true or false")


def _read_encoder_blocks(data: Any) -> list[Block]:
    return _read_blocks(data, ENCODER_BLOCKS)


def _read_decoder_blocks(data: Any) -> list[Block]:
    return _read_blocks(data, DECODER_BLOCKS)


class VideoVAEConfig(Section):
    """What the convolutional video VAE of LTX-2 and LTX-2.3 is made of.

    ``decoder_blocks`` is as in the file, from pixels to latents; the decoder is built in reverse.
    """

    constants: ClassVar[Mapping[str, Any]] = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
    }
    idle: ClassVar[Collection[str]] = (
        "scaling_factor",
        "use_quant_conv",
        "normalize_latent_channels",
        "encoder_base_channels",  # the encoder's first width is latent_channels
        "norm_num_groups",
    )

    in_channels: PositiveInt = 3
    out_channels: PositiveInt = 3
    latent_channels: PositiveInt = 128
    patch_size: PositiveInt = 4
    causal_decoder: bool = False
    timestep_conditioning: bool = True
    spatial_padding_mode: Padding | None = None
    encoder_spatial_padding_mode: Padding = "zeros"
    decoder_base_channels: PositiveInt = 128
    encoder_blocks: Annotated[list[InstanceOf[Block]], BeforeValidator(_read_encoder_blocks)]
    decoder_blocks: Annotated[list[InstanceOf[Block]], BeforeValidator(_read_decoder_blocks)]

    @property
    def encoder_padding(self) -> Padding:
        """How the encoder's convolutions pad height and width."""
        return self.spatial_padding_mode or self.encoder_spatial_padding_mode

    @property
    def decoder_padding(self) -> Padding:
        """How the decoder's convolutions pad height and width."""
        return self.spatial_padding_mode or "reflect"

    @property
    def scale(self) -> VideoScale:
        """Frames and pixels a latent, from the blocks and the patch; (8, 32) as released."""
        return self._scale_of(self.encoder_blocks)

    def _scale_of(self, blocks: list[Block]) -> VideoScale:
        return VideoScale(
            time=prod(block.stride[0] for block in blocks),
            space=prod(block.stride[1] for block in blocks) * self.patch_size,
        )

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        folded = self.patch_size**2
        widths = [
            self.latent_channels * prod(block.multiplier for block in self.encoder_blocks),
            self.decoder_base_channels * prod(block.multiplier for block in self.decoder_blocks),
            self.in_channels * folded,
            self.out_channels * folded,
        ]
        if max(widths) > LARGEST:
            raise ValueError(f"its widest layer has {max(widths)} channels; {LARGEST} at most")
        return self

    @model_validator(mode="after")
    def _check_scales(self) -> Self:
        down, up = self._scale_of(self.encoder_blocks), self._scale_of(self.decoder_blocks)
        if down != up:
            raise ValueError(
                f"the encoder shrinks (time, space) by {tuple(down)}, "
                f"the decoder grows them by {tuple(up)}"
            )
        return self
