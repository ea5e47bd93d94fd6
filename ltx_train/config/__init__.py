"""A training run as YAML in the public trainer's schema (spec/training.md 1.1), with our additions.

``read.py`` goes from a file to a ``TrainConfig``; ``schema.py`` is what one is made of.
"""

from ltx_train.config.optimization import (
    AccelerationConfig,
    FlowMatchingConfig,
    OptimizationConfig,
)
from ltx_train.config.read import Read, read_config, read_run, shipped_configs
from ltx_train.config.schema import (
    CheckpointsConfig,
    DataConfig,
    HubConfig,
    LoRAConfig,
    ModelConfig,
    TrainConfig,
    WandbConfig,
)
from ltx_train.config.strategy import AudioConfig, Condition, StrategyConfig, VideoConfig
from ltx_train.config.validation import SampleCondition, ValidationConfig, ValidationSample

__all__ = [
    "AccelerationConfig",
    "AudioConfig",
    "CheckpointsConfig",
    "Condition",
    "DataConfig",
    "FlowMatchingConfig",
    "HubConfig",
    "LoRAConfig",
    "ModelConfig",
    "OptimizationConfig",
    "Read",
    "SampleCondition",
    "StrategyConfig",
    "TrainConfig",
    "ValidationConfig",
    "ValidationSample",
    "VideoConfig",
    "WandbConfig",
    "read_config",
    "read_run",
    "shipped_configs",
]
