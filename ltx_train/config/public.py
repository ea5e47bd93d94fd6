"""What a file of the public trainer may say that the schema here has not (spec/training.md 1.1).

Keys that nothing here reads, and the older forms that it still takes.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ltx_train.config.section import Count, Name, NotNegative, Section, Share
from ltx_train.config.validation import Guidance


class ModelKeys(Section):
    """The networks of a model in several files."""

    video_vae_path: Name | None = None
    audio_vae_path: Name | None = None


class OptimizationKeys(Section):
    """Which AdamW."""

    optimizer_type: Literal["adamw", "adamw8bit"] = "adamw"


class AccelerationKeys(Section):
    """What saves memory on CUDA."""

    load_text_encoder_in_8bit: bool = False
    offload_optimizer_during_validation: bool = False


class DataKeys(Section):
    """How data is read."""

    num_dataloader_workers: Annotated[int, Field(ge=0)] | None = None


class ValidationKeys(Section):
    """Prompts with files beside them in place of samples, and one scale for both streams."""

    prompts: tuple[Name, ...] = ()
    images: tuple[Name, ...] | None = None
    reference_videos: tuple[Name, ...] | None = None
    reference_downscale_factor: Count = 1
    include_reference_in_output: bool = False
    guidance_scale: Guidance | None = None
    stg_scale: NotNegative | None = None
    stg_mode: Literal["stg_av", "stg_v"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("images", "reference_videos"):
            files = getattr(self, key)
            if files is not None and len(files) != len(self.prompts):
                raise ValueError(f"{key}: {len(files)} for {len(self.prompts)} prompts")
        return self


class TextToVideo(Section):
    """The legacy strategy of that name."""

    name: Literal["text_to_video"] = "text_to_video"
    first_frame_conditioning_p: Share = 0.1
    with_audio: bool = False
    audio_latents_dir: Name = "audio_latents"


class VideoToVideo(Section):
    """The legacy strategy of that name: IC-LoRA."""

    name: Literal["video_to_video"] = "video_to_video"
    first_frame_conditioning_p: Share = 0.1
    reference_latents_dir: Name = "reference_latents"


KEYS: dict[str, type[Section]] = {
    "model": ModelKeys,
    "optimization": OptimizationKeys,
    "acceleration": AccelerationKeys,
    "data": DataKeys,
    "validation": ValidationKeys,
}
STRATEGIES: dict[str, type[TextToVideo | VideoToVideo]] = {
    "text_to_video": TextToVideo,
    "video_to_video": VideoToVideo,
}
