"""What a file of trained weights says of itself.

Under our names; under kohya's, which begin with ss_; and under those of ModelSpec 1.0.1, for
programs that show a library of models (spec/mlx.md 4.6, spec/training.md 1.7).
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import cast

import mlx.nn as nn

from ltx_models.compensate.linear import CompensatedLinear, stored_as
from ltx_models.lora.about import AT_CLIP
from ltx_models.lora.aware import AwareLoRALinear
from ltx_models.lora.linear import lora_layers
from ltx_models.quantize import Mode, Quantization
from ltx_models.transformer.block import StreamName
from ltx_train.config import TrainConfig
from ltx_train.config.schema import LoRAConfig
from ltx_train.config.strategy import StreamConfig
from ltx_train.data.batches import streams
from ltx_train.output.facts import Facts

ELSEWHERE = {"output_dir", "hub", "wandb"}  # where results go, not what they are
LICENSE = "LTX-2 Community License"


def file_metadata(config: TrainConfig, facts: Facts, *, step: int) -> dict[str, str]:
    """The metadata of a step's file. What is not known, or has its usual value, is left out."""
    about = {
        "format": "pt",
        "trainer": f"ltx-mlx {version('ltx-mlx')}",
        "steps": str(step),
        "base_model_version": facts.base_version,
        "base_model_file": facts.base_file,
        "base_model_variant": facts.variant,
        "trigger": facts.trigger,
        "config_hash": config_hash(config),
        "dataset_hash": facts.data_hash,
        "ss_base_model_version": facts.base_version,
        "ss_steps": str(step),
        **_reference_factors(facts),
        "reference_audio_positions": _sound_positions(config),
        **_strategy(config),
        **_model_spec(config, facts, step=step),
    }
    if (lora := lora_of(config)) is not None:
        rank, alpha = str(lora.rank), f"{lora.alpha:g}"
        about |= {"rank": rank, "alpha": alpha, "target_modules": ",".join(lora.target_modules)}
        # kohya's readers multiply by alpha / dim only where the file has an alpha tensor.
        about |= {"ss_network_dim": rank, "ss_network_alpha": rank}
        about["ss_network_module"] = "networks.lora"
    return {key: value for key, value in about.items() if value is not None}


def quantization_metadata(model: nn.Module) -> dict[str, str]:
    """How the layers under an adapter are stored, and whether it has learnt to be fused into them.

    Nothing where none is quantised.
    """
    layers = lora_layers(model).values()
    quantised = [layer.base for layer in layers if isinstance(layer.base, nn.QuantizedLinear)]
    stored = {
        stored_as(
            Quantization(base.bits, base.group_size, cast(Mode, base.mode)),
            compensated=isinstance(base, CompensatedLinear),
        )
        for base in quantised
    }
    about = {"base_quantization": "; ".join(sorted(stored))} if stored else {}
    if any(isinstance(layer, AwareLoRALinear) for layer in layers):
        about["quantization_aware"] = "true"
    return about


def config_hash(config: TrainConfig) -> str:
    """Sixteen hex digits of all that a result depends on; not of where it goes."""
    data = config.model_dump(mode="json", exclude=ELSEWHERE)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def lora_of(config: TrainConfig) -> LoRAConfig | None:
    """The adapter of a run; None where all weights are trained, whatever else the file has."""
    return config.lora if config.model.training_mode == "lora" else None


def title_of(config: TrainConfig) -> str:
    """What a result is called: as on the hub, else as the run's folder."""
    return (config.hub.hub_model_id or config.output.resolve().name).rsplit("/", 1)[-1]


def streams_of(config: TrainConfig) -> Mapping[StreamName, StreamConfig]:
    """The streams that a run has, by name."""
    return streams(config.training_strategy)


def conditions_of(config: TrainConfig) -> list[str]:
    """The conditions of a run, each with how often it is there: "video first_frame 0.5"."""
    return [
        f"{name} {condition.type} {condition.probability:g}"
        for name, stream in streams_of(config).items()
        for condition in stream.conditions
    ]


def _reference_factors(facts: Facts) -> dict[str, str]:
    """What generation has to know of references; nothing where they are as large as the clip."""
    spatial, temporal = facts.reference
    about = {}
    if spatial != 1:
        names = ("reference_downscale_factor", "reference_spatial_scale_factor")
        about |= dict.fromkeys(names, str(spatial))
    if temporal != 1:
        about["reference_temporal_scale_factor"] = str(temporal)
    return about


def _sound_positions(config: TrainConfig) -> str | None:
    """Where reference sounds lie in time: at the clip's own times, not before it."""
    sound = streams_of(config).get("audio")
    referred = sound is not None and any(c.type == "reference" for c in sound.conditions)
    return AT_CLIP if referred else None


def _strategy(config: TrainConfig) -> dict[str, str | None]:
    both = streams_of(config)
    given = [name for name, stream in both.items() if not stream.is_generated]
    return {
        "trained_streams": ", ".join(name for name in both if name not in given),
        "given_streams": ", ".join(given) or None,
        "trained_conditions": ", ".join(conditions_of(config)) or None,
    }


def _model_spec(config: TrainConfig, facts: Facts, *, step: int) -> dict[str, str | None]:
    """Without its date: the same run is to make the same bytes."""
    is_lora = lora_of(config) is not None
    about = {
        "sai_model_spec": "1.0.1",
        "architecture": "LTX2/lora" if is_lora else "LTX2",
        "implementation": "https://github.com/Lightricks/LTX-2",
        "title": title_of(config),
        "description": f"{'LoRA' if is_lora else 'Fine-tune'} of {facts.base_file}, step {step}",
        "trigger_phrase": facts.trigger,
        "license": LICENSE,
        "resolution": facts.resolution,
    }
    return {f"modelspec.{key}": value for key, value in about.items()}
