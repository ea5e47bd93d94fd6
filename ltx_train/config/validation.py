"""The clips that are made as a run goes on, and what is held back to measure its loss by.

Sizes are the released models'; the pipeline that makes the clips checks them against its own.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ltx_train.config.section import (
    Count,
    Name,
    NotNegative,
    Positive,
    Region,
    Section,
    Seed,
    Share,
)

SPACE, TIME = 32, 8  # pixels and frames to a latent one
Guidance = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Dims = tuple[Count, Count, Count]  # width, height, frames


class _OfOneStream(Section):
    """What comes from a clip or from a sound, and goes to the stream of that kind."""

    video: Name | None = None
    audio: Name | None = None

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if (self.video is None) == (self.audio is None):
            raise ValueError(": either video or audio is wanted")
        return self


class FirstFrameSample(Section):
    """A still, or the first frame of a clip, to begin with."""

    type: Literal["first_frame"] = "first_frame"
    image_or_video: Name


class _End(_OfOneStream):
    num_frames: Count | None = None  # of a clip; None: all that there are
    duration: Positive | None = None  # of a sound, in seconds; None: all of it

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.video is None and self.num_frames is not None:
            raise ValueError("num_frames: goes with video; a sound has a duration")
        if self.audio is None and self.duration is not None:
            raise ValueError("duration: goes with audio; a clip has num_frames")
        return self


class PrefixSample(_End):
    """What comes before: 8k + 1 frames of a clip, or seconds of sound."""

    type: Literal["prefix"] = "prefix"

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        if self.num_frames is not None and self.num_frames % TIME != 1:
            raise ValueError(f"num_frames: a multiple of {TIME} plus 1, got {self.num_frames}")
        return self


class SuffixSample(_End):
    """What comes after: 8k frames of a clip, or seconds of sound."""

    type: Literal["suffix"] = "suffix"

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        if self.num_frames is not None and self.num_frames % TIME:
            raise ValueError(f"num_frames: a multiple of {TIME}, got {self.num_frames}")
        return self


class SpatialCropSample(Section):
    """A rectangle of a clip, (y1, x1, y2, x2) in pixels, about which the rest is made."""

    type: Literal["spatial_crop"] = "spatial_crop"
    video: Name
    spatial_region: Region


class MaskSample(_OfOneStream):
    """A clip or a sound, of which what the mask has above 0.5 stays."""

    type: Literal["mask"] = "mask"
    mask: Name


class ReferenceSample(_OfOneStream):
    """A clip or a sound to follow (IC-LoRA)."""

    type: Literal["reference"] = "reference"
    downscale_factor: Count = 1
    temporal_scale_factor: Count = 1
    include_in_output: bool = False


class VideoToAudioSample(Section):
    """A clip whose sound is made."""

    type: Literal["video_to_audio"] = "video_to_audio"
    video: Name


class AudioToVideoSample(Section):
    """A sound whose picture is made."""

    type: Literal["audio_to_video"] = "audio_to_video"
    audio: Name


SampleCondition = (
    FirstFrameSample
    | PrefixSample
    | SuffixSample
    | SpatialCropSample
    | MaskSample
    | ReferenceSample
    | VideoToAudioSample
    | AudioToVideoSample
)
GIVES_ALL = {"video_to_audio": "video", "audio_to_video": "audio"}


def stream_of(condition: SampleCondition) -> Literal["video", "audio"]:
    """The stream that a condition goes to."""
    return "audio" if getattr(condition, "audio", None) is not None else "video"


class ValidationSample(Section):
    """One clip to make."""

    prompt: Name
    conditions: tuple[Annotated[SampleCondition, Field(discriminator="type")], ...] = ()
    video_dims: Dims | None = None  # None: the section's
    seed: Seed | None = None  # None: the section's

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {GIVES_ALL[each.type] for each in self.conditions if each.type in GIVES_ALL}
        if len(given) == 2:
            raise ValueError("conditions: video_to_audio and audio_to_video leave nothing to make")
        for index, condition in enumerate(self.conditions):
            if condition.type not in GIVES_ALL and stream_of(condition) in given:
                raise ValueError(
                    f"conditions.{index}: {condition.type} gives a part of the "
                    f"{stream_of(condition)}, but all of it is given"
                )
        if self.video_dims is not None:
            check_dims(self.video_dims)
        return self


class ValidationConfig(Section):
    """Clips made by ``ltx_infer``'s own pipeline, and the loss of samples that are held back."""

    samples: tuple[ValidationSample, ...] = ()
    negative_prompt: str | None = None  # None: ltx-generate's
    video_dims: Dims = (960, 544, 89)
    frame_rate: Positive = 24.0
    seed: Seed = 42
    inference_steps: Count = 30
    interval: Count | None = 100  # in steps; None: never
    video_cfg_scale: Guidance = 3.0
    audio_cfg_scale: Guidance = 7.0
    video_stg_scale: NotNegative = 1.0
    audio_stg_scale: NotNegative = 1.0
    stg_blocks: tuple[Annotated[int, Field(ge=0)], ...] | None = (28,)  # None: all
    guidance_rescale: Share = 0.7
    video_modality_guidance_scale: Guidance = 3.0
    audio_modality_guidance_scale: Guidance = 3.0
    generate_audio: bool = True
    generate_video: bool = True
    skip_initial_validation: bool = False
    holdout: NotNegative = 0.0  # samples held back: a share of them below 1, else how many

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_dims(self.video_dims)
        if self.samples and not (self.generate_video or self.generate_audio):
            raise ValueError(
                "generate_video: without it and generate_audio there is nothing to make"
            )
        if self.holdout > 1 and not self.holdout.is_integer():
            raise ValueError(
                f"holdout: a share below 1 or a number of samples is wanted, got {self.holdout:g}"
            )
        return self

    def num_held_out(self, num_samples: int) -> int:
        """How many of so many samples are held back; of a share at least one."""
        if 0 < self.holdout < 1:
            return max(1, round(self.holdout * num_samples))
        return int(self.holdout)


def check_dims(dims: tuple[int, int, int]) -> None:
    """Raise ValueError for width, height and frames that do not divide into latents."""
    width, height, num_frames = dims
    if width % SPACE or height % SPACE or num_frames % TIME != 1:
        raise ValueError(
            f"video_dims: width and height are multiples of {SPACE}, frames a multiple of {TIME} "
            f"plus 1, got {', '.join(map(str, dims))}"
        )
