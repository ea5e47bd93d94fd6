"""What a training run is made of: YAML in the public trainer's schema (spec/training.md 1.1).

Only keys that are acted upon are here; any other is an error that names it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ltx_models.config import summarise
from ltx_models.errors import UserError
from ltx_train import schedule, timesteps

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
Folder = Annotated[str, Field(min_length=1)]
# YAML 1.1 reads 1e-4 as text, since it has no dot.
FLOAT = r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"


def _check_names(at: str, given: Mapping[str, float], known: Sequence[str], kind: str) -> None:
    if strange := [name for name in given if name not in known]:
        raise ValueError(
            f"{at}: {kind} has no {strange[0]!r}; it has {', '.join(known) or 'no parameter'}"
        )


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelConfig(_Section):
    """The checkpoint to train on, as ``ltx-generate --model`` takes it, and how."""

    model_path: Annotated[str, Field(min_length=1)]
    training_mode: Literal["lora"] = "lora"


class LoRAConfig(_Section):
    """The adapter; a target is the end of a module's path."""

    rank: Annotated[int, Field(ge=2)] = 64
    alpha: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 64
    target_modules: Names = ("to_k", "to_q", "to_v", "to_out.0")


class VideoConfig(_Section):
    """The picture, which is generated; its latents lie in this folder of the data."""

    is_generated: Literal[True] = True
    latents_dir: Folder = "latents"


class StrategyConfig(_Section):
    """What is learnt from what: for now the picture from the text."""

    name: Literal["flexible"]
    video: VideoConfig


class OptimizationConfig(_Section):
    """AdamW with PyTorch's betas, eps and weight decay, and the rates that it goes through."""

    learning_rate: Positive = 5e-4
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 3000
    batch_size: Count = 2
    max_grad_norm: Positive = 1.0
    optimizer_type: Literal["adamw"] = "adamw"
    scheduler_type: Literal[
        "constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "step"
    ] = "linear"
    scheduler_params: dict[str, float] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = schedule.PARAMETERS[self.scheduler_type]
        _check_names("scheduler_params", self.scheduler_params, known, self.scheduler_type)
        if not all(0 <= rate < float("inf") for rate in self.learning_rates()):
            raise ValueError("scheduler_params: they give a rate that is no number of at least 0")
        return self

    def learning_rates(self) -> list[float]:
        """The rate of each step."""
        rates = schedule.learning_rates(
            self.scheduler_type,
            steps=self.steps,
            rate=self.learning_rate,
            params=self.scheduler_params,
        )
        return rates.tolist()


class DataConfig(_Section):
    """The folder that ``ltx-precompute`` wrote."""

    preprocessed_data_root: Folder


class FlowMatchingConfig(_Section):
    """How noise levels are drawn."""

    timestep_sampling_mode: Literal["shifted_logit_normal", "uniform"] = "shifted_logit_normal"
    timestep_sampling_params: dict[str, float] = {}

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


class TrainConfig(_Section):
    """One run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    output_dir: Folder = "outputs"
    model: ModelConfig
    lora: LoRAConfig
    training_strategy: StrategyConfig
    optimization: OptimizationConfig = OptimizationConfig()
    data: DataConfig
    flow_matching: FlowMatchingConfig = FlowMatchingConfig()

    @property
    def output(self) -> Path:
        """Where the run's files go."""
        return Path(self.output_dir).expanduser()

    @property
    def data_root(self) -> Path:
        """Where the latents and text features are."""
        return Path(self.data.preprocessed_data_root).expanduser()


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, with ``section.key=value`` put over it.

    Raises UserError that names every bad key by its path, with the nearest one that there is.
    """
    data = _read_yaml(path)
    for override in overrides:
        _put(data, override)
    try:
        # As JSON, because there a strict model takes a list for a tuple, and nothing looser.
        return TrainConfig.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise UserError(f"{path}: {summarise(list(dict.fromkeys(problems)))}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: sections (model:, lora:, data:, ...) are wanted")
    return data


def _put(data: dict[str, Any], override: str) -> None:
    """Set one value by its dotted path."""
    name, equals, text = override.partition("=")
    *sections, key = name.split(".")
    if not equals or not all([*sections, key]):
        raise UserError(f"{override!r}: section.key=value is wanted, as optimization.steps=500")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{override!r}: not YAML: {' '.join(str(error).split())}") from None
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise UserError(f"{override!r}: {section} has no keys of its own")
    data[key] = value


class _Loader(yaml.SafeLoader):
    """YAML with 1e-4 as a number; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises ConstructorError for a repeated key."""
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice[0]!r} is there twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(FLOAT), list("-+.0123456789"))


def _describe(problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{path}: is required"
    if problem["type"] == "extra_forbidden":
        known = list(_section_at(problem["loc"][:-1]).model_fields)
        near = get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    if problem["type"] == "value_error":  # a section's own words, which begin with the key
        return f"{path}.{problem['ctx']['error']}"
    return f"{path}: {problem['msg']}, got {problem['input']!r}"


def _section_at(path: Sequence[str | int]) -> type[BaseModel]:
    section: Any = TrainConfig
    for part in path:
        section = section.model_fields[part].annotation
    return section
