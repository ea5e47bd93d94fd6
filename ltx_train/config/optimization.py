"""How the weights are changed, at which noise levels, and in which numbers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ltx_train import schedule, timesteps
from ltx_train.config.section import Count, Positive, Section

Quantization = Literal[
    "affine-2bit",
    "affine-3bit",
    "affine-4bit",
    "affine-5bit",
    "affine-6bit",
    "affine-8bit",
    "mxfp4",
    "mxfp8",
    "nvfp4",
]
BITS: Mapping[str, int] = {
    "affine-2bit": 2,
    "affine-3bit": 3,
    "affine-4bit": 4,
    "affine-5bit": 5,
    "affine-6bit": 6,
    "affine-8bit": 8,
    "mxfp4": 4,
    "mxfp8": 8,
    "nvfp4": 4,
}


class OptimizationConfig(Section):
    """AdamW with PyTorch's betas, eps and weight decay, and the rates that it goes through."""

    learning_rate: Positive = 5e-4
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 3000
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = 2
    gradient_accumulation_steps: Count = 1
    max_grad_norm: Positive = 1.0
    scheduler_type: Literal[
        "constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "step"
    ] = "linear"
    scheduler_params: dict[str, float] = Field(default_factory=dict)
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    enable_gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = schedule.PARAMETERS[self.scheduler_type]
        _check_names("scheduler_params", self.scheduler_params, known, self.scheduler_type)
        if not all(0 <= rate < float("inf") for rate in self.learning_rates()):
            raise ValueError("scheduler_params: they give a rate that is no number of at least 0")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: fewer than steps, {self.steps}, are wanted")
        return self

    def learning_rates(self) -> list[float]:
        """The rate of each step; over the warm-up the schedule's own grow from near 0."""
        rates = schedule.learning_rates(
            self.scheduler_type,
            steps=self.steps,
            rate=self.learning_rate,
            params=self.scheduler_params,
        )
        growth = np.arange(1, self.steps + 1) / (self.warmup_steps + 1)
        return (rates * np.minimum(growth, 1)).tolist()


class FlowMatchingConfig(Section):
    """How noise levels are drawn."""

    timestep_sampling_mode: Literal["shifted_logit_normal", "uniform"] = "shifted_logit_normal"
    timestep_sampling_params: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        mode, params = self.timestep_sampling_mode, self.timestep_sampling_params
        _check_names("timestep_sampling_params", params, timesteps.PARAMETERS[mode], mode)
        rng = np.random.default_rng(0)
        with np.errstate(all="ignore"):
            draws = timesteps.draw_sigmas(rng, 1000, mode, params, num_tokens=1024)
        if not ((draws >= 0) & (draws <= 1)).all():
            raise ValueError("timestep_sampling_params: they give noise levels outside [0, 1]")
        return self


class AccelerationConfig(Section):
    """The numbers of the base, which is not trained: their type, or how they are quantised."""

    mixed_precision_mode: Literal["bf16", "no"] = "bf16"  # no: float32 throughout
    quantization: Quantization | None = None

    @property
    def bits(self) -> int | None:
        """How many a quantised weight has; None where the base is not quantised."""
        return BITS[self.quantization] if self.quantization else None

    @property
    def mode(self) -> str:
        """MLX's name for how weights are quantised."""
        return (self.quantization or "affine").partition("-")[0]


def _check_names(at: str, given: Mapping[str, float], known: Sequence[str], kind: str) -> None:
    if strange := [name for name in given if name not in known]:
        raise ValueError(
            f"{at}: {kind} has no {strange[0]!r}; it has {', '.join(known) or 'no parameter'}"
        )
