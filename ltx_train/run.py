"""From a TrainConfig to a finished run: model, data, adapter, files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import yaml

from ltx_infer.hub import find_model
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.files import check_writable, write_text
from ltx_models.lora.adapters import add_trainable, save_lora
from ltx_models.text_encoder import connect
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.config import TrainConfig
from ltx_train.data.batches import make_batches
from ltx_train.data.dataset import Sample, check_batches, open_dataset, read_features, version_text
from ltx_train.trainer import train

Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many
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
    samples = open_dataset(config.data_root, latents_dir=config.training_strategy.video.latents_dir)
    check_batches(samples, batch_size=config.optimization.batch_size)
    _check_samples(samples, checkpoint)
    model = load_transformer(checkpoint, dtype=compute_dtype(), streams=("video",))
    mx.random.seed(config.seed)
    lora = config.lora
    modules = add_trainable(
        model, rank=lora.rank, alpha=lora.alpha, target_modules=lora.target_modules
    )
    contexts = _contexts(checkpoint, samples, report)
    batches = make_batches(
        samples, contexts, config, scale=checkpoint.section("vae", VideoVAEConfig).scale
    )

    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(config.output / CONFIG_NAME, settings)
    steps, loss = config.optimization.steps, 0.0
    report("training", 0, steps)
    with (config.output / METRICS_NAME).open("w") as log:
        for metrics in train(model, batches, config.optimization):
            loss = metrics.loss
            log.write(f"{json.dumps(metrics._asdict())}\n")
            log.flush()
            report("training", metrics.step, steps)
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
    checkpoint: Checkpoint, samples: Sequence[Sample], report: Report
) -> dict[str, mx.array]:
    """What the transformer is told of each sample (1, S, dim), by its name."""
    report("text", 0, 1)
    features = [read_features(sample) for sample in samples]
    contexts = connect(checkpoint, features, audio=False, dtype=compute_dtype())
    mx.clear_cache()
    report("text", 1, 1)
    return {each.name: context.video for each, context in zip(samples, contexts, strict=True)}
