"""What a training run is made of: the public trainer's schema (spec/training.md 1.1) and ours.

Only keys that are acted upon are here. What a file may say besides is in translate.py.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ltx_train.config.optimization import (
    AccelerationConfig,
    FlowMatchingConfig,
    OptimizationConfig,
)
from ltx_train.config.section import Count, Name, Section, Seed
from ltx_train.config.strategy import StrategyConfig
from ltx_train.config.validation import ValidationConfig

Names = Annotated[tuple[Name, ...], Field(min_length=1)]


class ModelConfig(Section):
    """The checkpoint to train on, as ``ltx-generate --model`` takes it, and how."""

    model_path: Name
    text_encoder_path: Name | None = None  # for validation; None: the one beside the checkpoint
    training_mode: Literal["lora", "full"] = "lora"
    load_checkpoint: Name | None = None  # adapter to start from; of a folder the last step's
    allow_distilled: bool = False  # train on the distilled checkpoint, of a folder too
    allow_unknown_config: tuple[Name, ...] = ()  # keys of the checkpoint's own to pass over

    @field_validator("model_path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if "://" in path:
            raise ValueError(f": a file or folder is wanted, not an address: {path}")
        return path


class LoRAConfig(Section):
    """The adapter; a target is the end of a module's path."""

    rank: Annotated[int, Field(ge=2)] = 64
    alpha: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Names = ("to_k", "to_q", "to_v", "to_out.0")
    quantization_aware: bool = False  # compute as if fused into the quantised base, and learn so

    @model_validator(mode="after")
    def _check_dropout(self) -> Self:
        if self.quantization_aware and self.dropout:
            raise ValueError(
                "dropout: does not go with quantization_aware: a weight that is fused has none"
            )
        return self


class DataConfig(Section):
    """The folder that ``ltx-precompute`` wrote; null, with --debug only: random latents."""

    preprocessed_data_root: Name | None
    trigger: Name | None = None  # a word that captions have to contain


class CheckpointsConfig(Section):
    """What is kept of a run, besides its last step."""

    interval: Count | None = None  # in steps; None: the last step only
    keep_last_n: Annotated[int, Field(ge=-1)] = 1  # -1: all
    best: bool = False  # keep the one of the lowest validation loss too
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    no_resume: bool = False  # with load_checkpoint: its weights only, from step 0
    save_training_state: Literal["full", "minimal", "off"] = "full"

    @field_validator("save_training_state", mode="before")
    @classmethod
    def _read_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads off as false

    @field_validator("keep_last_n")
    @classmethod
    def _keep_some(cls, count: int) -> int:
        if count == 0:
            raise ValueError(": a number, or -1 for all, is wanted, got 0")
        return count


class HubConfig(Section):
    """Where the adapter is uploaded to."""

    push_to_hub: bool = False
    hub_model_id: Name | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError("hub_model_id: is required to push to the hub, as user/name")
        return self


class WandbConfig(Section):
    """Weights & Biases."""

    enabled: bool = False
    project: Name = "ltxv-trainer"
    entity: Name | None = None
    tags: tuple[Name, ...] = ()
    log_validation_videos: bool = True


class TrainConfig(Section):
    """One run."""

    seed: Seed = 42
    output_dir: Name = "outputs"
    model: ModelConfig
    lora: LoRAConfig | None = None  # given in the mode that it is for
    training_strategy: StrategyConfig
    optimization: OptimizationConfig = OptimizationConfig()
    acceleration: AccelerationConfig = AccelerationConfig()
    data: DataConfig
    validation: ValidationConfig = ValidationConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    hub: HubConfig = HubConfig()
    flow_matching: FlowMatchingConfig = FlowMatchingConfig()
    wandb: WandbConfig = WandbConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model.training_mode == "lora" and self.lora is None:
            raise ValueError("lora: is required when model.training_mode is lora")
        if self.model.training_mode == "full" and self.acceleration.quantization is not None:
            raise ValueError(
                "acceleration.quantization: model.training_mode full trains no integers"
            )
        validation = self.validation
        if self.checkpoints.best and not (validation.holdout and validation.interval):
            raise ValueError(
                "checkpoints.best: goes by the loss of validation.holdout, every interval"
            )
        return self

    @property
    def output(self) -> Path:
        """Where the run's files go."""
        return Path(self.output_dir).expanduser()

    @property
    def data_root(self) -> Path:
        """Where the latents and text features are; they have to be somewhere."""
        assert self.data.preprocessed_data_root is not None
        return Path(self.data.preprocessed_data_root).expanduser()
