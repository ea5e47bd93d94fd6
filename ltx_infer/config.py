"""What a person asks of ltx-generate, checked before anything is loaded.

A field is the flag of the same name. Sizes in pixels, times in seconds, fps in frames a second.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ltx_infer.hub.aliases import ALIASES as MODEL_ALIASES
from ltx_models.config import summarise
from ltx_models.errors import UserError

TIME_SCALE = 8  # frames to one latent frame, in every release

PipelineName = Literal[
    "distilled",
    "dev",
    "dev-two-stage",
    "dev-two-stage-hq",
    "keyframe",
    "ic-lora",
    "t2a",
    "retake",
    "extend",
]
ALIASES = {
    "ti2vid_one_stage": "dev",
    "ti2vid_two_stages": "dev-two-stage",
    "full": "dev-two-stage",
    "two_stage": "dev-two-stage",
    "ti2vid_two_stages_hq": "dev-two-stage-hq",
    "keyframe_interpolation": "keyframe",
    "ic_lora": "ic-lora",
}
Config = TypeVar("Config", bound=BaseModel)


def _in_utf8(text: str) -> str:
    """Text whose bytes a terminal of another encoding passed on as they are."""
    try:
        return text.encode(errors="surrogateescape").decode()
    except UnicodeError:
        raise ValueError("is no text in UTF-8") from None


def _named_in_utf8(path: Path) -> Path:
    """A name that the clip's comment, and the files beside it, can hold."""
    try:
        str(path).encode()
    except UnicodeError:
        raise ValueError("the name is no text in UTF-8") from None
    return path


Text = Annotated[str, AfterValidator(_in_utf8)]
File = Annotated[Path, AfterValidator(_named_in_utf8)]
Strength = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(gt=0, le=16384)]
Scale = Annotated[float, Field(ge=0, le=100)]


class Flag(BaseModel):
    """A flag with several values: a file, then what may follow it, in the order of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: File

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, data: Any) -> Any:
        if isinstance(data, str | Path):
            data = [data]
        if not isinstance(data, Sequence):
            return data
        names = list(cls.model_fields)
        if len(data) > len(names):
            raise ValueError(f"takes {' '.join(name.upper() for name in names)} at most")
        return dict(zip(names, data, strict=False))


class ImageFlag(Flag):
    """``--image PATH [FRAME [STRENGTH [CRF]]]``."""

    frame: Annotated[int, Field(ge=0)] = 0
    strength: Strength | None = None
    crf: Annotated[int, Field(ge=0, le=51)] | None = None


def _zero(frame: int) -> int:
    if frame:
        raise ValueError("a reference starts with the clip, so that only 0 would fit")
    return frame


class ReferenceFlag(Flag):
    """``--video-conditioning PATH [FRAME [STRENGTH]]``."""

    frame: Annotated[int, AfterValidator(_zero)] = 0
    strength: Strength = 1.0


class LoRAFlag(Flag):
    """``--lora PATH [STRENGTH [AUDIO_STRENGTH]]``."""

    path: str  # type: ignore[assignment]  # a name on the hub is no path
    strength: float | None = None
    audio_strength: float | None = None


class DistilledFlag(Flag):
    """``--distilled-lora PATH [STRENGTH]``."""

    path: str  # type: ignore[assignment]  # as a LoRAFlag's
    strength: float | None = None


class ClipFlag(Flag):
    """``--prefix-video PATH [FRAMES]`` and ``--suffix-video``."""

    frames: Positive = TIME_SCALE + 1


class MaskFlag(Flag):
    """``--conditioning-attention-mask PATH STRENGTH``."""

    strength: Strength = 1.0


def _pad(data: Any) -> Any:
    parts = data.split(",") if isinstance(data, str) else list(data)
    numbers = [int(part) for part in parts if str(part).strip().isdecimal()]
    if len(parts) != 4 or len(numbers) != 4 or not any(numbers):
        raise ValueError("takes left,top,right,bottom in pixels, as 0,64,0,64")
    return numbers


def _multiple_of_8(value: int) -> int:
    if value % TIME_SCALE:
        raise ValueError(f"frames come in eights; {value - value % TIME_SCALE + 8} would fit")
    return value


Eights = Annotated[Positive, AfterValidator(_multiple_of_8)]
Padding = Annotated[tuple[int, int, int, int], BeforeValidator(_pad)]  # left, top, right, bottom


class GenerateConfig(BaseModel):
    """One clip."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    embedding: File | None = None  # which has its own prompt
    prompt: Text = Field(default="", validate_default=True)
    enhance_prompt: bool = False
    enhanced_prompt: str | None = None  # what --enhance-prompt made; encoded in its place
    dummy_embeddings: bool = False
    pipeline: Annotated[PipelineName, BeforeValidator(lambda name: ALIASES.get(name, name))] = (
        "distilled"
    )
    model: str = "Lightricks/LTX-2"
    checkpoint_path: File | None = None
    text_encoder_repo: str | None = None
    spatial_upscaler: str | None = None
    temporal_upscale: bool = False
    quantize: Annotated[Literal[4, 6, 8] | None, Field(validate_default=True)] = None
    allow_unknown_config: tuple[str, ...] = ()
    low_memory: bool = False
    tiling: Literal["auto", "none", "conservative", "aggressive"] = "auto"
    stream: bool = False
    force: bool = False  # begun also where it does not fit the memory

    height: Pixels = 512
    width: Pixels = 512
    num_frames: Annotated[int, Field(gt=0, le=100_000)] = 33
    fps: Annotated[float, Field(ge=1, le=120)] = 24.0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 42
    audio: bool = False
    one_stage: bool = False
    skip_stage_2: bool = False
    output_path: File = Path("output.mp4")  # output.wav for t2a
    output_audio: File | None = None
    save_frames: bool = False
    preview: bool = False
    skip_vae: bool = False
    placeholder: bool = False

    steps: Positive | None = None
    cfg_scale: Scale = 3.0
    audio_cfg_scale: Scale = 7.0
    cfg_rescale: Strength | None = None
    stg_scale: Scale = 0.0
    stg_blocks: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    modality_scale: Scale = 1.0
    apg: bool = False
    skip_step: Annotated[int, Field(ge=0)] = 0
    audio_skip_step: Annotated[int, Field(ge=0)] = 0
    negative_prompt: Text | None = None
    max_batch_size: Positive | None = None

    image: tuple[ImageFlag, ...] = ()
    image_strength: Strength = 1.0
    conditioning_mode: Literal["auto", "replace", "guide"] = "auto"
    video_conditioning: tuple[ReferenceFlag, ...] = ()
    conditioning_attention_mask: MaskFlag | None = None
    prefix_video: ClipFlag | None = None
    suffix_video: ClipFlag | None = None
    mask: File | None = None
    pad: Padding | None = None

    audio_file: File | None = None
    audio_start_time: Annotated[float, Field(ge=0)] = 0.0
    audio_strength: Strength = 1.0
    reference_audio: File | None = None

    video: File | None = None
    start_time: Annotated[float, Field(ge=0)] = 0.0
    end_time: Annotated[float, Field(gt=0)] | None = None
    keep: Literal["video", "audio"] | None = None
    extend_after: Eights | None = None
    extend_before: Eights | None = None

    lora: tuple[LoRAFlag, ...] = ()
    lora_strength: float = 1.0
    lora_mode: Literal["auto", "attach", "fuse"] = "auto"
    lora_fuse_anyway: bool = False
    lora_allow_unmatched: bool = False
    distilled_lora: DistilledFlag | None = None
    lora_strength_stage_1: float = 0.25
    lora_strength_stage_2: float = 0.5

    @field_validator("prompt", mode="before")
    @classmethod
    def _strip(cls, prompt: Any) -> Any:
        return prompt.strip() if isinstance(prompt, str) else prompt

    @field_validator("prompt", mode="after")
    @classmethod
    def _need(cls, prompt: str, info: ValidationInfo) -> str:
        if not prompt and info.data.get("embedding") is None:
            raise PydanticCustomError("missing", "is required")
        return prompt

    @model_validator(mode="before")
    @classmethod
    def _name_a_sound(cls, data: Any) -> Any:
        if data.get("pipeline") == "t2a" and "output_path" not in data:
            return {**data, "output_path": "output.wav"}
        return data

    @field_validator("quantize", mode="after")
    @classmethod
    def _as_the_alias(cls, bits: Any, info: ValidationInfo) -> Any:
        name = info.data.get("model")
        alias = MODEL_ALIASES.get(name or "")
        if alias is None or bits == alias.bits:
            return bits
        if bits is not None:
            raise ValueError(f"{name} means {alias.bits} bit; {alias.repository} takes any")
        return alias.bits

    @field_validator("output_path", "output_audio", "embedding", mode="after")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @property
    def text(self) -> str:
        """What is encoded."""
        return self.enhanced_prompt or self.prompt

    @property
    def reads_prompts(self) -> bool:
        """Whether a text encoder is needed."""
        return self.embedding is None and not self.dummy_embeddings

    @property
    def two_stages(self) -> bool:
        """Whether a half-size stage comes first."""
        single = {"dev", "t2a", "retake", "extend"}
        return self.pipeline not in single and not self.one_stage

    @property
    def sound_is_kept(self) -> bool:
        """Whether the clip gets the very sound that it is given."""
        return self.audio_file is not None and self.audio_strength == 1

    def given(self, *fields: str) -> list[str]:
        """Which of these fields were asked for."""
        return [field for field in fields if field in self.model_fields_set]

    def size_faults(self) -> dict[str, tuple[int, str]]:
        """Sizes that the model cannot make: field to the nearest value that fits, and the rule."""
        multiple = 32
        if self.two_stages:
            multiple = 128 if "x1.5" in (self.spatial_upscaler or "") else 64
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
    return checked(GenerateConfig, given)


def checked(kind: type[Config], given: Mapping[str, object]) -> Config:
    """As ``build``, for the configuration of any command."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise UserError(summarise(list(dict.fromkeys(problems)))) from None


def _describe(problem: Any) -> str:
    flag = f"--{str(problem['loc'][0]).replace('_', '-')}"
    if problem["type"] == "missing" and len(problem["loc"]) == 1:
        return f"{flag} is required"
    message = problem["msg"].removeprefix("Value error, ")
    part = next((f" {p.upper()}" for p in problem["loc"][1:] if isinstance(p, str)), "")
    return f"{flag}{part} {problem['input']!r}: {message}"
