"""What a person asks of ltx-generate, checked before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltx_models.config import summarise
from ltx_models.errors import UserError

TIME_SCALE = 8  # frames to one latent frame, in every release


class GenerateConfig(BaseModel):
    """One clip; a field is the flag of the same name. Sizes in pixels, fps in frames a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1)
    model: str = "Lightricks/LTX-2"
    text_encoder_repo: str | None = None
    height: Annotated[int, Field(gt=0)] = 512
    width: Annotated[int, Field(gt=0)] = 512
    num_frames: Annotated[int, Field(gt=0)] = 33
    fps: Annotated[float, Field(gt=0, le=120)] = 24.0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 42
    audio: bool = False
    one_stage: bool = False
    output_path: Path = Path("output.mp4")
    allow_unknown_config: tuple[str, ...] = ()

    def size_faults(self) -> dict[str, tuple[int, str]]:
        """Sizes that the model cannot make: field to the nearest value that fits, and the rule."""
        multiple = 32 if self.one_stage else 64
        faults = {}
        for field in ("height", "width"):
            value = getattr(self, field)
            if value % multiple:
                rule = f"a multiple of {multiple}"
                faults[field] = (max(round(value / multiple), 1) * multiple, rule)
        if self.num_frames % TIME_SCALE != 1:
            nearest = max(round((self.num_frames - 1) / TIME_SCALE), 0) * TIME_SCALE + 1
            faults["num_frames"] = (nearest, f"a multiple of {TIME_SCALE} plus 1")
        return faults


def build(given: Mapping[str, object]) -> GenerateConfig:
    """A configuration from flags' values; raises UserError that names every bad flag."""
    try:
        return GenerateConfig.model_validate(given)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            flag = f"--{str(problem['loc'][0]).replace('_', '-')}"
            missing = problem["type"] in ("missing", "string_too_short")
            said = "is required" if missing else f"{problem['input']!r}: {problem['msg']}"
            problems.append(f"{flag} {said}")
        raise UserError(summarise(problems)) from None
