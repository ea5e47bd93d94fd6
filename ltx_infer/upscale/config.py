"""What a person asks of ltx-upscale, checked before anything is loaded.

A field is the flag of the same name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ltx_infer.combinations import flags
from ltx_infer.config import File, GenerateConfig, Text, build

SCALES = (1.5, 2.0)
OF_REFINING = ("prompt", "seed", "text_encoder_repo", "quantize", "low_memory")


def _is_known(scale: float) -> float:
    if scale not in SCALES:
        raise ValueError("the latent upscalers have 2 and 1.5")
    return scale


class UpscaleConfig(BaseModel):
    """One picture or clip."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: File
    output: File
    model: str = "Lightricks/LTX-2"
    scale: Annotated[float, AfterValidator(_is_known)] | None = None
    spatial_upscaler: str | None = None
    temporal: bool = False
    tiling: Literal["auto", "none", "conservative", "aggressive"] = "auto"
    allow_unknown_config: tuple[str, ...] = ()

    refine: bool = False
    prompt: Text | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 42
    text_encoder_repo: str | None = None
    quantize: Literal[4, 6, 8] | None = None
    low_memory: bool = False

    @field_validator("input", "output", mode="after")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("prompt", mode="before")
    @classmethod
    def _strip(cls, prompt: Any) -> Any:
        return prompt.strip() or None if isinstance(prompt, str) else prompt

    @property
    def spatial(self) -> bool:
        """Whether it gets larger; also where nothing at all is said."""
        asked = self.scale is not None or self.spatial_upscaler is not None
        return asked or not self.temporal

    @property
    def upscaler_name(self) -> str | None:
        """Which spatial upscaler: as named, else by the scale, None for the newest x2."""
        if self.spatial_upscaler is not None or self.scale is None:
            return self.spatial_upscaler
        return f"x{self.scale:g}"

    def given(self, fields: Sequence[str]) -> list[str]:
        """Which of these fields were asked for."""
        return [field for field in fields if field in self.model_fields_set]

    def as_generated(self) -> GenerateConfig:
        """The run whose second stage refines, as far as its models go; raises UserError."""
        asked = self.given(("model", "quantize", "text_encoder_repo", "allow_unknown_config"))
        values = {name: getattr(self, name) for name in asked}
        return build(
            {
                "prompt": self.prompt,
                "low_memory": self.low_memory,
                "spatial_upscaler": self.upscaler_name,
                **values,
            }
        )


def faults(config: UpscaleConfig, *, is_still: bool) -> Iterator[str]:
    """Every combination of flags that means nothing, as one line each."""
    if config.refine and config.prompt is None:
        yield "--refine needs a --prompt that says what is seen"
    if not config.refine and (fields := config.given(OF_REFINING)):
        yield f"{flags(fields)}: for --refine"
    if is_still and config.temporal:
        yield f"--temporal: {config.input} is a picture, and has no frames to add to"
