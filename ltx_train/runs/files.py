"""What a run writes as it goes: states and weights, and which of them it keeps."""

from pathlib import Path

from ltx_models.transformer.model import Transformer
from ltx_train.output.adapter import prune, saved_values, write_adapter, write_model
from ltx_train.output.layout import METRICS, weight_files
from ltx_train.report import metrics
from ltx_train.runs.prepare import Job
from ltx_train.runs.state import RunFacts, remove_states, states, write_state
from ltx_train.step import TrainState


def save(job: Job, model: Transformer, state: TrainState, facts: RunFacts) -> Path:
    """Write a step's weights and its state, and remove what is not to be kept; the weights' path.

    The weights come first: a state without them would leave a run that cannot be used. Raises
    UserError where a file cannot be written whole.
    """
    config, values = job.config, saved_values(state)
    if config.lora is not None:
        path = write_adapter(model, config, job.facts, step=facts.step, values=values)
    else:
        path = write_model(job.base, config, job.facts, step=facts.step, values=values)
    if config.checkpoints.save_training_state != "off":
        write_state(config, facts, state)
    best = best_step(config.output) if config.checkpoints.best else None
    prune(config.output, keep=config.checkpoints.keep_last_n, best=best)
    kept = {step for step, _ in weight_files(config.output)}
    remove_states(config.output, states(config.output).keys() - kept)
    return path


def best_step(folder: Path) -> int | None:
    """The step of a run's lowest validation loss, the first of equal ones; None without any.

    The base's own, at step 0, is no step's: there is no adapter of it that could be kept.
    """
    rows = metrics.read(folder / METRICS).validations
    rows = [row for row in rows if row["loss"] is not None and row["step"]]
    return min(rows, key=lambda row: row["loss"])["step"] if rows else None
