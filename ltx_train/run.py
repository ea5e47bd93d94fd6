"""From a TrainConfig to a finished run: what is checked, loaded, trained, validated and saved."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.progress import Report
from ltx_models.device import compute_dtype, machine_memory, memory_limits
from ltx_models.errors import UserError
from ltx_models.files import write_text
from ltx_models.lora.adapters import load_trainable as load_adapter
from ltx_models.lora.files import read_lora
from ltx_models.transformer.model import Transformer
from ltx_train.config import TrainConfig
from ltx_train.data.batches import Contexts, make_batches
from ltx_train.model import load_trainable, run_streams, start
from ltx_train.output.hub import push, token_note
from ltx_train.output.layout import CONFIG, METRICS, made_samples, weight_files
from ltx_train.output.wandb_log import WandbLog, open_wandb
from ltx_train.report import metrics
from ltx_train.report.training import write_report
from ltx_train.runs.alone import alone_in
from ltx_train.runs.contexts import make_contexts
from ltx_train.runs.describe import describe
from ltx_train.runs.files import best_step, save
from ltx_train.runs.prepare import Job, prepare
from ltx_train.runs.progress import Progress, between_lines
from ltx_train.runs.resume import check_output, cut_back
from ltx_train.runs.state import RunFacts, config_text, read_state, state_path
from ltx_train.runs.stop import Stop, stop_requests
from ltx_train.step import Step, TrainState, installer
from ltx_train.trainer import (
    StepMetrics,
    TargetError,
    check_targets,
    feed,
    is_first_update,
    train,
)
from ltx_train.validation.clips import make_clips, saved_weights
from ltx_train.validation.heldout import heldout_loss
from ltx_train.validation.prepare import Validation, prepare_validation
from ltx_train.validation.samples import is_due as is_validation_due

LAST_STEPS = 100  # in the mean loss that a run ends with
Say = Callable[[str], None]


class Finished(NamedTuple):
    """What a run left: the weights, how many layers have an adapter, and the last steps' loss."""

    adapter: Path
    num_modules: int
    loss: float  # mean of the last steps, as one's says more of its noise level; nan without any


@dataclass
class _Live:
    """A run in memory."""

    job: Job
    model: Transformer
    step: Step
    state: TrainState
    contexts: Contexts
    validation: Validation
    record: WandbLog | None
    notes: Sequence[str]  # for the report
    report: Report
    say: Say
    done: int = 0  # steps
    saved: int = 0  # the step of the last save
    is_validated: bool = True  # after ``done`` steps, if that was due


def train_lora(
    config: TrainConfig,
    *,
    report: Report,
    say: Say,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    debug: bool = False,
    notes: Sequence[str] = (),
) -> Finished | None:
    """Train what a configuration says into its ``output_dir``; None after a dry run.

    ``resume`` goes on with the run in that folder, with ``force`` even where the configuration has
    changed. ``notes`` are what there is to say of the configuration. Raises UserError for what
    cannot be trained, before anything is written; and KeyboardInterrupt with a signal's number
    when it came and the run was saved.
    """
    with ExitStack() as stack:
        limit = machine_memory()
        job = prepare(config, stack, limit=limit, resume=resume, force=force, report=report)
        for line in (*describe(job, every_module=debug), *job.notes, token_note(config)):
            if line:
                say(line)
        if dry_run:
            return None
        stack.enter_context(alone_in(config.output))
        check_output(config, resume=resume)  # again, as another run may just have ended there
        stack.enter_context(memory_limits(limit))
        live = _load(job, notes=[*notes, *job.notes], report=report, say=say)
        with live.record or nullcontext(), stop_requests(say) as stop:
            _train(live, stop, every_step=debug)
        return _finish(live)


def _load(job: Job, *, notes: Sequence[str], report: Report, say: Say) -> _Live:
    """Everything into memory, the large and passing first; then the run's folder is begun."""
    config, origin = job.config, job.start.origin
    streams = run_streams(config.training_strategy)
    dtype = compute_dtype()
    validation = prepare_validation(config, job.checkpoint, job.files, dtype=dtype)
    contexts = make_contexts(job.checkpoint, job.captions, streams, report=report)
    model, state, step = _load_model(job)
    done = origin.facts.step if origin else 0
    is_validated = origin is not None and origin.facts.is_validated
    if origin is not None:
        state = read_state(origin.path, state)
        installer(model)(state.parameters)
    is_here = origin is not None and origin.path == state_path(config.output, done)
    cut_back(config.output, done if is_here else -1, is_validated=is_validated)
    write_text(config.output / CONFIG, config_text(config))
    return _Live(
        job=job,
        model=model,
        step=step,
        state=state,
        contexts=contexts,
        validation=validation,
        record=open_wandb(config, run_id=origin and origin.facts.wandb_id, say=say),
        notes=[*notes, *validation.notes],
        report=report,
        say=say,
        done=done,
        saved=done if done in dict(weight_files(config.output)) else 0,
        is_validated=is_validated,
    )


def _load_model(job: Job) -> tuple[Transformer, TrainState, Step]:
    config, weights = job.config, job.start.weights
    model, _ = load_trainable(job.base, config)
    if weights is not None and config.lora is not None:
        load_adapter(model, read_lora(weights))
    # Now, as a compiled step would else read the weights from the disk each time.
    mx.eval(model.parameters())
    step, state = start(model, config)
    return model, state, step


def _train(live: _Live, stop: Stop, *, every_step: bool) -> None:
    """All steps that are left, with their validations and saves."""
    config = live.job.config
    steps = config.optimization.steps
    progress = Progress(live.say, steps=steps, every_step=every_step)
    try:
        _validate(live, stop)
        live.report("training", live.done, steps)
        for metrics_ in _steps(live):
            _log(live, metrics_, progress)
            improved = _validate(live, stop)
            interval = config.checkpoints.interval
            is_due = interval and live.done % interval == 0
            if (is_due or improved) and int(live.state.updates):
                _save(live)
            stop.raise_if_asked()
        if live.done > live.saved:
            _save(live)
    except TargetError:
        raise
    except (UserError, KeyboardInterrupt, OSError) as error:
        _save_at_stop(live, error)
        raise


def _save_at_stop(live: _Live, error: BaseException) -> None:
    """Save what is not yet saved, and note at what stopped the run what there is to go on with."""
    if live.done > live.saved and int(live.state.updates):
        try:
            _save(live)
        except (UserError, OSError) as other:
            if str(other) != str(error):
                reason = str(other).partition("\n")[0]
                error.add_note(f"step {live.done} is not saved: {reason}")
    if live.saved:
        config = live.job.config
        has_states = config.checkpoints.save_training_state != "off"
        go_on = "; --resume goes on" if has_states else ""
        error.add_note(f"saved at step {live.saved} in {config.output}{go_on}")


def _steps(live: _Live) -> Iterator[StepMetrics]:
    """Train on from where the run is; after each step the run has its state."""
    job, optimization = live.job, live.job.config.optimization
    accumulation = optimization.gradient_accumulation_steps
    first = live.done * accumulation
    batches = make_batches(job.dataset, live.contexts, job.config, scales=job.scales, start=first)
    dropout = job.config.lora.dropout if job.config.lora else 0.0
    given = feed(live.model, batches, seed=job.config.seed, dropout=dropout, start=first)
    rates = optimization.learning_rates()
    steps = train(live.step, live.state, given, rates, accumulation=accumulation, done=live.done)
    for state, found in steps:
        live.state, live.done, live.is_validated = state, found.step, False
        yield found


def _log(live: _Live, found: StepMetrics, progress: Progress) -> None:
    config = live.job.config
    peak = mx.get_peak_memory()
    row = metrics.step_row(found, memory_active=mx.get_active_memory(), memory_peak=peak)
    mx.reset_peak_memory()
    _record(live, row)
    progress.add(found, memory_peak=peak)
    live.report("training", found.step, config.optimization.steps)
    if found.step % between_lines(config.optimization.steps) == 0:
        _write_report(live)
    if config.lora is not None and is_first_update(live.state, found):
        unreached = check_targets(live.state, config.lora.target_modules)
        if unreached:
            live.say(
                f"{len(unreached)} of {len(live.job.modules)} layers get no gradient, as what they "
                f"compute reaches no loss: {unreached[0]}, ..."
            )


def _validate(live: _Live, stop: Stop) -> bool:
    """The validation after the steps done, if one is due; whether its loss is the lowest so far."""
    job, config = live.job, live.job.config
    something = job.held or live.validation.samples
    if live.is_validated or not something or not is_validation_due(config.validation, live.done):
        live.is_validated = True
        return False
    start = perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        stop.raise_if_asked()
        live.report(stage, done, total)

    losses: dict[str, float] = {}
    faults: list[str] = []
    with saved_weights(live.model, live.state):
        if job.held:
            losses = heldout_loss(
                live.model,
                job.held,
                job.dataset,
                live.contexts,
                config,
                scales=job.scales,
                report=lambda *_: stop.raise_if_asked(),
            )
            live.say(f"step {live.done}: validation loss {losses['loss']:.4f}")
        if live.validation.samples:
            faults = _make_clips(live, report)
    seconds = perf_counter() - start
    row = metrics.validation_row(step=live.done, losses=losses, seconds=seconds, faults=faults)
    _record(live, row)
    live.is_validated = True
    _write_report(live)
    return config.checkpoints.best and best_step(config.output) == live.done


def _make_clips(live: _Live, report: Report) -> list[str]:
    """Make the clips; what is wrong with them, a line each."""
    output, step = live.job.config.output, live.done
    clips = make_clips(live.model, live.validation, output, step, report=report)
    faults = [f"{made.prompt!r}: {fault}" for made in clips for fault in made.faults]
    for fault in faults:
        live.say(f"step {step}: {fault}")
    if live.record is not None and live.job.config.wandb.log_validation_videos:
        new = [one for one in made_samples(output) if one.step == step]
        live.record.samples(new, [sample.plan.sample.prompt for sample in live.validation.samples])
    return faults


def _record(live: _Live, row: metrics.Row) -> None:
    metrics.append(live.job.config.output / METRICS, row)
    if live.record is not None:
        live.record.row(row)


def _save(live: _Live) -> None:
    job = live.job
    origin = job.start.origin
    facts = RunFacts(
        step=live.done,
        is_validated=live.is_validated,
        base_hash=job.base_hash,
        data_hash=job.facts.data_hash,
        wandb_id=live.record.id if live.record else origin and origin.facts.wandb_id,
    )
    save(job, live.model, live.state, facts)
    live.saved = live.done
    _write_report(live)


def _write_report(live: _Live) -> None:
    config = live.job.config
    write_report(config.output, config=config, facts=live.job.facts, notes=live.notes)


def _finish(live: _Live) -> Finished:
    config = live.job.config
    _write_report(live)
    step, weights = weight_files(config.output)[-1]
    if config.hub.push_to_hub:
        live.say(push(config, live.job.facts, step=step, weights=weights))
    rows = metrics.read(config.output / METRICS).steps[-LAST_STEPS:]
    losses = [row["loss"] for row in rows if not row["skipped_in_a_row"]]
    return Finished(weights, len(live.job.modules), fmean(losses) if losses else nan)
