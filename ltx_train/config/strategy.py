"""What is learnt from what (spec/training.md 1.2): the one form that the training step reads.

The public trainer's legacy strategies have become this form before (translate.py).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ltx_train.config.section import Count, Name, NotNegative, Region, Section, Share


class FirstFrame(Section):
    """The first latent frame is given, of a sample that has more than one."""

    type: Literal["first_frame"] = "first_frame"
    probability: Share = 1.0


class Prefix(Section):
    """The first ``temporal_boundary`` latent frames, or steps of sound, are given."""

    type: Literal["prefix"] = "prefix"
    temporal_boundary: Count
    probability: Share = 1.0


class Suffix(Section):
    """The last ``temporal_boundary`` latent frames, or steps of sound, are given."""

    type: Literal["suffix"] = "suffix"
    temporal_boundary: Count
    probability: Share = 1.0


class SpatialCrop(Section):
    """A rectangle of every frame is given: (y1, x1, y2, x2) in pixels."""

    type: Literal["spatial_crop"] = "spatial_crop"
    spatial_region: Region
    probability: Share = 1.0


class Mask(Section):
    """Where the sample's mask is above 0.5 it is given; ``mask_dir`` is a folder of the data."""

    type: Literal["mask"] = "mask"
    mask_dir: Name
    probability: Share = 1.0


class Reference(Section):
    """Clean tokens of another clip before the sample's own (IC-LoRA), one draw for a batch."""

    type: Literal["reference"] = "reference"
    latents_dir: Name
    probability: Share = 1.0


Condition = FirstFrame | Prefix | Suffix | SpatialCrop | Mask | Reference
OF_A_PICTURE = ("first_frame", "spatial_crop")  # conditions that sound cannot have


class StreamConfig(Section):
    """One stream: learnt (``is_generated``), or given clean, at noise level 0, without a loss."""

    is_generated: bool = True
    latents_dir: Name
    conditions: tuple[Annotated[Condition, Field(discriminator="type")], ...] = ()
    loss_weight: NotNegative = 1.0

    def folders(self) -> list[str]:
        """The folders of the data that are read for it."""
        given = [
            each.mask_dir if isinstance(each, Mask) else each.latents_dir
            for each in self.conditions
            if isinstance(each, Mask | Reference)
        ]
        return [self.latents_dir, *given]

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if self.conditions and not self.is_generated:
            raise ValueError(
                f"conditions.0: {self.conditions[0].type} gives a part of what is generated, "
                "but with is_generated: false all of it is given"
            )
        return self


class VideoConfig(StreamConfig):
    """The picture."""

    latents_dir: Name = "latents"


class AudioConfig(StreamConfig):
    """The sound."""

    latents_dir: Name = "audio_latents"

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        for index, condition in enumerate(self.conditions):
            if condition.type in OF_A_PICTURE:
                raise ValueError(
                    f"conditions.{index}: sound takes no {condition.type}, "
                    "only prefix, suffix, mask and reference"
                )
        return self


class StrategyConfig(Section):
    """The streams of a run; one that is None is not there at all: not loaded, not computed."""

    name: Literal["flexible"] = "flexible"
    video: VideoConfig | None = None
    audio: AudioConfig | None = None
    shared_sigma: bool = False  # one noise level for both streams, drawn for the picture's tokens
    caption_dropout: Share = 0.0  # how often the empty prompt stands for the caption

    @model_validator(mode="after")
    def _check(self) -> Self:
        generated = [each for each in (self.video, self.audio) if each and each.is_generated]
        if not generated:
            raise ValueError(": nothing is generated: set is_generated of video or audio")
        if not any(each.loss_weight for each in generated):
            raise ValueError(": the loss_weight of all that is generated is 0")
        folders = [name for each in (self.video, self.audio) if each for name in each.folders()]
        if twice := [name for name in folders if folders.count(name) > 1]:
            raise ValueError(f": the folder {twice[0]!r} is named twice; each holds one thing")
        return self
