"""A run in words, before it starts."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from ltx_train.config import TrainConfig, ValidationConfig
from ltx_train.data.order import batches_per_epoch
from ltx_train.runs.prepare import Job

INDEX = re.compile(r"\.\d+\.")  # of a block
SIZES = 6  # on one line


def describe(job: Job, *, every_module: bool) -> list[str]:
    """Base, data, what is trained and for how long, a line each."""
    config, facts = job.config, job.facts
    variant = facts.variant or "variant unknown"
    stored = f", {facts.stored}" if facts.stored else ""
    return [
        f"base: {job.checkpoint.path} (LTX {facts.base_version}, {variant}{stored})",
        *_data(job),
        *_trained(config, job.modules, every_module=every_module),
        *_schedule(job),
        f"memory: {job.plan}",
    ]


def _data(job: Job) -> list[str]:
    facts, count = job.facts, len(job.dataset.samples) + len(job.held)
    sizes = [f"{number} of {size}" for size, number in facts.sizes.items()]
    more = f" and {len(sizes) - SIZES} more sizes" if len(sizes) > SIZES else ""
    held = f", {len(job.held)} held back" if job.held else ""
    trigger = f"; trigger {facts.trigger!r}" if facts.trigger else ""
    return [f"data: {counted(count, 'sample')}{held}: {', '.join(sizes[:SIZES])}{more}{trigger}"]


def _trained(config: TrainConfig, modules: Sequence[str], *, every_module: bool) -> list[str]:
    if config.lora is None:
        return ["trained: all weights of the transformer"]
    lora = config.lora
    lines = [f"trained: a LoRA of rank {lora.rank}, alpha {lora.alpha:g}, on {len(modules)} layers"]
    if every_module:
        return [*lines, *(f"  {path}" for path in modules)]
    return [*lines, *(f"  {line}" for line in module_groups(modules))]


def module_groups(modules: Sequence[str]) -> list[str]:
    """One line for each kind of module: how many layers, and which of its parts.

    As ``192 transformer_blocks.*.attn1: to_k, to_out.0, to_q, to_v``.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for path in modules:
        pattern = INDEX.sub(".*.", path, count=1)
        stem, _, rest = pattern.partition(".*.")
        module, _, part = rest.partition(".")
        groups[f"{stem}.*.{module}" if rest else pattern][part or "itself"] += 1
    return [
        f"{sum(parts.values())} {group}: {', '.join(sorted(parts))}"
        for group, parts in sorted(groups.items())
    ]


def _schedule(job: Job) -> list[str]:
    optimization = job.config.optimization
    rates = optimization.learning_rates()
    each = optimization.batch_size * optimization.gradient_accumulation_steps
    epoch = batches_per_epoch(job.dataset.samples, batch_size=optimization.batch_size)
    epochs = optimization.steps * optimization.gradient_accumulation_steps / epoch
    warmup = f", {optimization.warmup_steps} to warm up" if optimization.warmup_steps else ""
    checkpoints, validation = job.config.checkpoints, job.config.validation
    saved = f"every {checkpoints.interval} and " if checkpoints.interval else ""
    made = []
    if validation.interval is not None:
        made += [clips_to_make(validation)] if validation.samples else []
        made += [f"the loss of {counted(len(job.held), 'sample')}"] if job.held else []
    lines = [
        f"schedule: {optimization.steps} steps of {counted(each, 'sample')}, {epochs:.1f} epochs; "
        f"{optimization.scheduler_type} rate {rates[0]:.2e} to {rates[-1]:.2e}{warmup}",
        f"saved: {saved}at the end, in {job.config.output}",
    ]
    if made:
        lines.append(f"validation: {' and '.join(made)}, every {validation.interval} steps")
    return lines


def clips_to_make(validation: ValidationConfig) -> str:
    """How many clips a validation makes, and how large: as ``2 clips of 960x544x89``."""
    dims = {sample.video_dims or validation.video_dims for sample in validation.samples}
    sizes = ", ".join("x".join(map(str, each)) for each in sorted(dims))
    return f"{counted(len(validation.samples), 'clip')} of {sizes}"


def counted(count: int, what: str) -> str:
    """As ``1 sample`` and ``2 samples``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
