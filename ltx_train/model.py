"""The transformer of a run: the streams that it needs, its base, and what of it is trained."""

from typing import NamedTuple

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.lora.adapters import add_trainable
from ltx_models.quantize import quantization, quantize
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import Streams
from ltx_models.transformer.model import BOTH, Transformer
from ltx_train.config import TrainConfig
from ltx_train.config.strategy import StrategyConfig
from ltx_train.step import Step, TrainState, make_step, new_state

# How a stream's modules are prefixed, and the attention that writes to it.
ENDS = {"video": ("", "audio_to_video_attn"), "audio": ("audio_", "video_to_audio_attn")}


class Trainable(NamedTuple):
    """A model with its trainable weights set, and the layers that have an adapter, by path."""

    model: Transformer
    modules: list[str]  # none where all weights are trained


def run_streams(strategy: StrategyConfig) -> Streams:
    """The streams of a run; of a checkpoint no other is read."""
    present = {"video": strategy.video, "audio": strategy.audio}
    return tuple(name for name in BOTH if present[name] is not None)


def base_dtype(config: TrainConfig) -> mx.Dtype:
    """What the base is in, and computes in."""
    return mx.float32 if config.acceleration.mixed_precision_mode == "no" else compute_dtype()


def load_trainable(checkpoint: Checkpoint, config: TrainConfig) -> Trainable:
    """Load the base, quantise it where asked, and set what is trained: an adapter, or all of it.

    The adapter is float32 whatever the base is, and drawn from ``config.seed``. Raises UserError
    for a target that names no layer of the run's streams, where an adapter is to see its quantised
    merge but no layer is quantised, and for a base that is quantised as it is stored where it is to
    be quantised, or trained itself.
    """
    _check_stored(checkpoint, config)
    streams = run_streams(config.training_strategy)
    model = load_transformer(checkpoint, dtype=base_dtype(config), streams=streams)
    if (bits := config.acceleration.bits) is not None:
        how = quantization(bits, mode=config.acceleration.mode)
        quantize(model, how, evaluate=not checkpoint.header_only)
    model.recompute(config.optimization.enable_gradient_checkpointing)
    lora = config.lora
    if config.model.training_mode == "full" or lora is None:
        model.unfreeze()
        _freeze_unused(model, config.training_strategy)
        return Trainable(model, [])
    mx.random.seed(config.seed)
    modules = add_trainable(
        model,
        rank=lora.rank,
        alpha=lora.alpha,
        target_modules=lora.target_modules,
        quantization_aware=lora.quantization_aware,
    )
    return Trainable(model, modules)


def _check_stored(checkpoint: Checkpoint, config: TrainConfig) -> None:
    stored = next(iter(checkpoint.quantization.values()), None)
    if stored is None:
        return
    said = f"{checkpoint.path} is quantised as it is stored ({stored})"
    if config.acceleration.quantization is not None:
        raise UserError(
            f"acceleration.quantization {config.acceleration.quantization}: {said}.\n"
            "Leave it out, or name a base that is not quantised"
        )
    if config.model.training_mode == "full":
        raise UserError(
            f"model.training_mode full: {said}, and integers cannot be trained.\n"
            "Train an adapter (lora), or name a base that is not quantised"
        )


def _freeze_unused(model: Transformer, strategy: StrategyConfig) -> None:
    """Freeze what reaches no loss: a given stream's way from what the other reads last to its end.

    Weight decay would else wear away what nothing teaches.
    """
    last = model.transformer_blocks[-1]
    present = {"video": strategy.video, "audio": strategy.audio}
    for name, (at, into) in ENDS.items():
        stream = present[name]
        if stream is not None and not stream.is_generated:
            model.freeze(recurse=False, keys=f"{at}scale_shift_table")
            for module in (model[f"{at}proj_out"], last[f"{at}ff"], last[into]):
                module.freeze()


def start(model: Transformer, config: TrainConfig) -> tuple[Step, TrainState]:
    """The step of a loaded model, and the state before the first one.

    On a GPU the step is compiled; on a CPU that would take a C++ compiler a minute and save little.
    """
    optimization = config.optimization
    step = make_step(
        model,
        max_grad_norm=optimization.max_grad_norm,
        ema_decay=optimization.ema_decay,
        dropout=config.lora.dropout if config.lora else 0.0,
        compiled=mx.default_device() != mx.cpu,
    )
    return step, new_state(model, keep_average=optimization.ema_decay is not None)
