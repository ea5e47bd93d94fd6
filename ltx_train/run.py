"""From a TrainConfig to a finished run: model, data, adapter, files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import yaml

from ltx_infer.hub import find_model
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.files import check_writable, write_text
from ltx_models.lora.adapters import save_lora
from ltx_models.text_encoder import connect
from ltx_models.transformer.config import TransformerConfig
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.config import TrainConfig
from ltx_train.data.batches import Contexts, Scales, data_folders, make_batches
from ltx_train.data.dataset import Dataset, open_dataset, version_text
from ltx_train.data.layout import EMPTY_PROMPT
from ltx_train.data.order import check_batches
from ltx_train.data.samples import Sample, read_features
from ltx_train.model import load_trainable, start
from ltx_train.trainer import check_targets, feed, is_first_update, to_json, train

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many
NO_CAPTION = ""  # no sample is called so
CONFIG_NAME, METRICS_NAME, CHECKPOINTS = "training_config.yaml", "metrics.jsonl", "checkpoints"


class Finished(NamedTuple):
    """What a run left: the adapter, how many layers it changes, and the last step's loss."""

    adapter: Path
    num_modules: int
    loss: float


def train_lora(config: TrainConfig, *, report: Report) -> Finished:
    """Train an adapter and write it to ``output_dir``, with the configuration and a log.

    Raises UserError for what cannot be trained, before anything is written, and when the loss
    leaves what is finite; the log then ends with the step before.
    """
    _check_output(config.output)
    checkpoint = open_checkpoint(find_model(config.model.model_path, variant="dev").checkpoint)
    dataset = open_dataset(config.data_root, data_folders(config.training_strategy))
    check_batches(dataset.samples, batch_size=config.optimization.batch_size)
    _check_samples(dataset.samples, checkpoint)
    model, modules = load_trainable(checkpoint, config)
    contexts = _contexts(checkpoint, dataset, config, report)
    scales = Scales(
        checkpoint.section("vae", VideoVAEConfig).scale,
        checkpoint.section("audio_vae", AudioVAEConfig).scale,
    )
    batches = make_batches(dataset, contexts, config, scales=scales)
    dropout = config.lora.dropout if config.lora else 0.0
    given = feed(model, batches, seed=config.seed, dropout=dropout)
    step, state = start(model, config)

    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(config.output / CONFIG_NAME, settings)
    steps, loss = config.optimization.steps, 0.0
    rates = config.optimization.learning_rates()
    accumulation = config.optimization.gradient_accumulation_steps
    report("training", 0, steps)
    with (config.output / METRICS_NAME).open("w") as log:
        for new, metrics in train(step, state, given, rates, accumulation=accumulation):
            loss = metrics.loss
            log.write(f"{to_json(metrics)}\n")
            log.flush()
            report("training", metrics.step, steps)
            if config.lora is not None and is_first_update(new, metrics):
                check_targets(new, config.lora.target_modules)
    adapter = config.output / CHECKPOINTS / f"lora_weights_step_{steps:05}.safetensors"
    adapter.parent.mkdir(exist_ok=True)
    about = {"base_model_version": version_text(checkpoint), "steps": str(steps)}
    save_lora(model, adapter, metadata=about)
    return Finished(adapter, len(modules), loss)


def _check_output(folder: Path) -> None:
    """Raise UserError unless a new run can be written there."""
    if any((folder / name).exists() for name in (CONFIG_NAME, METRICS_NAME, CHECKPOINTS)):
        raise UserError(f"output_dir {folder}: there is a run in it already; name another folder")
    check_writable(folder, name="output_dir")


def _check_samples(samples: Sequence[Sample], checkpoint: Checkpoint) -> None:
    """Raise UserError unless the samples were made for this model."""
    config = checkpoint.section("transformer", TransformerConfig)
    version = version_text(checkpoint)
    dims = (config.connector.dim, config.audio_connector.dim)
    for sample in samples:
        for file in (sample.latents, sample.conditions):
            if (made_for := file.metadata.get("model_version", version)) != version:
                raise UserError(
                    f"{file.path}: made for model version {made_for}, but {checkpoint.path.name} "
                    f"is {version}.\nRun ltx-precompute with this model"
                )
        if sample.shape[0] != config.in_channels:
            raise UserError(
                f"{sample.latents.path}: latents of {sample.shape[0]} channels; "
                f"{checkpoint.path.name} takes {config.in_channels}"
            )
        if sample.feature_dims != dims:
            raise UserError(
                f"{sample.conditions.path}: text features of {sample.feature_dims} channels; "
                f"{checkpoint.path.name} takes {dims}"
            )


def _contexts(
    checkpoint: Checkpoint, dataset: Dataset, config: TrainConfig, report: Report
) -> Contexts:
    """What the transformer is told of each sample, and of none."""
    report("text", 0, 1)
    strategy = config.training_strategy
    files = {sample.name: sample.conditions for sample in dataset.samples}
    if strategy.caption_dropout:
        if dataset.empty_prompt is None:
            raise UserError(
                "training_strategy.caption_dropout: the data have no text features of the empty "
                f"prompt ({EMPTY_PROMPT}).\nRun ltx-precompute again; it makes what is missing"
            )
        files[NO_CAPTION] = dataset.empty_prompt
    features = [read_features(file) for file in files.values()]
    with_sound = strategy.audio is not None
    connected = connect(checkpoint, features, audio=with_sound, dtype=compute_dtype())
    mx.clear_cache()
    report("text", 1, 1)
    by_name = dict(zip(files, connected, strict=True))
    return lambda sample: by_name[NO_CAPTION if sample is None else sample.name]
