"""What to change in a run that would not fit the memory."""

from collections.abc import Callable, Iterator
from typing import Any

from ltx_models.errors import UserError
from ltx_train.config import TrainConfig
from ltx_train.memory.plan import GB, Plan

SMALL_RANK = 16


def check_fit(
    plan: Plan,
    config: TrainConfig,
    limit: int,
    *,
    plan_of: Callable[[TrainConfig], Plan],
    stored: bool = False,
) -> None:
    """Raise UserError where a plan takes more than ``limit`` bytes, with what would take less.

    That is the first change of a configuration that is enough alone, else as many as are needed.
    ``plan_of`` makes a configuration's plan; ``stored`` is whether the base is quantised as it is
    stored, and cannot be quantised further.
    """
    if plan.total <= limit:
        return
    said = f"memory: there are {limit / GB:.2f} GB for a run here, and this one takes {plan}"
    if plan.encoder > limit:
        raise UserError(
            f"{said}.\nName a quantised text encoder with model.text_encoder_path, or set "
            "validation.interval=null"
        )
    changes = list(_changes(config, stored=stored))
    for words, changed in changes:
        if (found := plan_of(_with(config, changed))).total <= limit:
            raise UserError(f"{said}.\n{words} would take {found.total / GB:.2f} GB")
    together, found = config, plan
    for number, (_, changed) in enumerate(changes, 1):
        together = _with(together, changed)
        if (found := plan_of(together)).total <= limit:
            words = " ".join(words for words, _ in changes[:number])
            raise UserError(f"{said}.\n{words} would take {found.total / GB:.2f} GB")
    words = " ".join(words for words, _ in changes)
    least = f"Even {words} would take {found.total / GB:.2f} GB; make" if changes else "Make"
    raise UserError(
        f"{said}.\n{least} the clips smaller: ltx-precompute --resolution-buckets, or train fewer "
        "lora.target_modules"
    )


def _changes(config: TrainConfig, *, stored: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each as what to write, and as values by section; what costs the least comes first."""
    optimization, lora, bits = config.optimization, config.lora, config.acceleration.bits
    if not optimization.enable_gradient_checkpointing:
        key = "enable_gradient_checkpointing"
        yield f"optimization.{key}=true", {"optimization": {key: True}}
    if optimization.batch_size > 1:
        count = optimization.batch_size * optimization.gradient_accumulation_steps
        smaller = {"batch_size": 1, "gradient_accumulation_steps": count}
        yield (
            " ".join(f"optimization.{k}={v}" for k, v in smaller.items()),
            {"optimization": smaller},
        )
    for fewer in (8, 4):
        if lora is not None and not stored and (bits is None or bits > fewer):
            values = {"quantization": f"affine-{fewer}bit"}
            yield f"acceleration.quantization={values['quantization']}", {"acceleration": values}
    if lora is not None and lora.rank > SMALL_RANK:
        yield f"lora.rank={SMALL_RANK}", {"lora": {"rank": SMALL_RANK}}


def _with(config: TrainConfig, values: dict[str, Any]) -> TrainConfig:
    sections = {
        name: getattr(config, name).model_copy(update=changed) for name, changed in values.items()
    }
    return config.model_copy(update=sections)
