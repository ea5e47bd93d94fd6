"""All that is checked before a run: it reads headers and data, no weights, and writes nothing."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ltx_infer.hub import ModelFiles
from ltx_infer.pipeline.find_lora import CHECKPOINTS, find_lora
from ltx_infer.plan.text import encoder_bytes
from ltx_infer.progress import Report
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.device import compute_dtype
from ltx_models.errors import UserError
from ltx_models.identity import weights_hash
from ltx_models.lora.adapters import load_trainable as load_adapter
from ltx_models.lora.files import read_lora
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.config import TrainConfig
from ltx_train.data.batches import Scales, data_folders
from ltx_train.data.dataset import Dataset, open_dataset
from ltx_train.data.order import check_batches
from ltx_train.data.samples import Sample, SampleFile
from ltx_train.memory.fit import check_fit
from ltx_train.memory.plan import Plan, batch_shapes, make_plan
from ltx_train.model import Trainable, base_dtype, load_trainable, run_streams
from ltx_train.output.facts import Facts, run_facts
from ltx_train.output.layout import WEIGHTS
from ltx_train.runs.checks import (
    Makers,
    check_samples,
    check_text,
    check_trigger,
    check_values,
    find_base,
)
from ltx_train.runs.contexts import NO_CAPTION, caption_files, context_sizes
from ltx_train.runs.random_data import random_data
from ltx_train.runs.resume import Origin, check_output, check_unchanged, find_origin, origin_beside
from ltx_train.runs.state import check_state
from ltx_train.step import new_state
from ltx_train.validation.heldout import hold_out
from ltx_train.validation.prepare import check_validation
from ltx_train.validation.samples import reference_notes


class Start(NamedTuple):
    """What a run starts from, besides the base."""

    weights: Path | None  # of ``model.load_checkpoint``
    origin: Origin | None  # the state that it goes on from


class Job(NamedTuple):
    """A run that can be started."""

    config: TrainConfig
    files: ModelFiles
    checkpoint: Checkpoint
    dataset: Dataset  # to train on
    held: Sequence[Sample]
    captions: dict[str, SampleFile]  # text features, of held samples too
    facts: Facts
    base_hash: str
    start: Start
    modules: list[str]  # that get an adapter
    plan: Plan
    notes: list[str]  # what a person should know, a line each

    @property
    def base(self) -> Checkpoint:
        """The transformer's weights; where all are trained, those that the run starts from."""
        if self.start.weights is None or self.config.lora is not None:
            return self.checkpoint
        allowed = self.config.model.allow_unknown_config
        return open_checkpoint(self.start.weights, allow_unknown=allowed)

    @property
    def scales(self) -> Scales:
        """What one latent stands for."""
        return Scales(
            self.checkpoint.section("vae", VideoVAEConfig).scale,
            self.checkpoint.section("audio_vae", AudioVAEConfig).scale,
        )


def prepare(
    config: TrainConfig,
    stack: ExitStack,
    *,
    limit: int,
    resume: bool,
    force: bool,
    report: Report,
) -> Job:
    """Check a run from end to end. Random data, where there is none, lives as long as ``stack``.

    ``limit`` is how many bytes it may take. Raises UserError for whatever would stop it.
    """
    files = find_base(config.model)
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.model.allow_unknown_config)
    check_output(config, resume=resume)
    whole, notes = _open_data(config, checkpoint, stack)
    streams = run_streams(config.training_strategy)
    check_samples(whole.samples, checkpoint, streams)
    captions = caption_files(whole, dropout=config.training_strategy.caption_dropout)
    if (empty := captions.get(NO_CAPTION)) is not None:
        check_text(empty, Makers(checkpoint))
    dataset, held = hold_out(whole, config)
    facts = run_facts(config, checkpoint, dataset, variant=files.variant, held=held)
    notes += [*files.notes, *dataset.notes, *check_trigger(facts.trigger, whole.samples)]
    notes += check_batches(dataset.samples, batch_size=config.optimization.batch_size)
    notes += check_validation(config, checkpoint, files, dtype=compute_dtype())
    notes += reference_notes(config.validation, facts.reference)
    encoder = _encoder_bytes(config, files)

    def plan_of(config: TrainConfig, shapes: Trainable | None = None) -> Plan:
        model = (shapes or _shapes(config, checkpoint)).model
        return _plan(model, config, checkpoint, dataset.samples, len(captions), encoder)

    shapes = _shapes(config, checkpoint)
    plan = plan_of(config, shapes)
    check_fit(plan, config, limit, plan_of=plan_of, stored=bool(checkpoint.quantization))
    base_hash = weights_hash([checkpoint.file], prefixes=(TRANSFORMER,))
    start, changed = _find_start(
        config, resume=resume, force=force, base_hash=base_hash, data_hash=facts.data_hash
    )
    _check_start(start, config, shapes.model)
    check_values(whole.samples, report=report)
    return Job(
        config=config,
        files=files,
        checkpoint=checkpoint,
        dataset=dataset,
        held=held,
        captions=captions,
        facts=facts,
        base_hash=base_hash,
        start=start,
        modules=shapes.modules,
        plan=plan,
        notes=[*notes, *changed],
    )


def _open_data(
    config: TrainConfig, checkpoint: Checkpoint, stack: ExitStack
) -> tuple[Dataset, list[str]]:
    folders = data_folders(config.training_strategy)
    if config.data.preprocessed_data_root is not None:
        return open_dataset(config.data_root, folders), []
    root = stack.enter_context(random_data(config, checkpoint))
    note = "data.preprocessed_data_root is null: random latents, from which nothing is learnt"
    return open_dataset(root, folders), [note]


def _shapes(config: TrainConfig, checkpoint: Checkpoint) -> Trainable:
    """The model of a run, of which only the shapes are there."""
    return load_trainable(replace(checkpoint, header_only=True), config)


def _plan(
    model: Transformer,
    config: TrainConfig,
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    num_captions: int,
    encoder: int,
) -> Plan:
    transformer = checkpoint.section("transformer", TransformerConfig)
    streams = run_streams(config.training_strategy)
    sizes = context_sizes(transformer, streams, dtype=compute_dtype())
    return make_plan(
        model,
        config,
        batch_shapes(samples, config),
        dtype=base_dtype(config),
        contexts=sizes.of(num_captions),
        encoder=encoder,
    )


def _encoder_bytes(config: TrainConfig, files: ModelFiles) -> int:
    """Of the text encoder, where prompts are to be encoded."""
    validation, named = config.validation, config.model.text_encoder_path
    if not validation.samples or validation.interval is None:
        return 0
    folder = files.text_encoder(named, flag="model.text_encoder_path")
    return encoder_bytes(folder, compute_dtype())


def _find_start(
    config: TrainConfig, *, resume: bool, force: bool, base_hash: str, data_hash: str
) -> tuple[Start, list[str]]:
    hashes = {"base_hash": base_hash, "data_hash": data_hash}
    notes: list[str] = []
    if resume:
        origin = find_origin(config)
        if origin is not None:
            # A state has what was trained; of a whole model there may be more than that.
            whole = config.lora is None and config.model.load_checkpoint is not None
            weights = _find_weights(config) if whole else None
            return Start(weights, origin), check_unchanged(origin, config, **hashes, force=force)
        notes = ["--resume: no state was saved yet; the run starts anew"]
    if config.model.load_checkpoint is None:
        return Start(None, None), notes
    path = _find_weights(config)
    origin = None if config.checkpoints.no_resume else origin_beside(path)
    if origin is None:
        return Start(path, None), [*notes, f"model.load_checkpoint: {path}, from step 0"]
    line = (
        f"model.load_checkpoint: {origin.path}, from step {origin.facts.step}; "
        "checkpoints.no_resume=true takes the weights alone"
    )
    changed = check_unchanged(origin, config, **hashes, force=True)
    return Start(path, origin), [*notes, line, *changed]


def _check_start(start: Start, config: TrainConfig, model: Transformer) -> None:
    """Raise UserError where what a run starts from is damaged, or not of the model's shapes."""
    if start.weights is not None and config.lora is not None:
        load_adapter(model, read_lora(start.weights))
    if start.origin is not None:
        averaged = config.optimization.ema_decay is not None
        check_state(start.origin.path, new_state(model, keep_average=averaged))


def _find_weights(config: TrainConfig) -> Path:
    """The file of ``model.load_checkpoint``; of a folder that of the highest step."""
    assert config.model.load_checkpoint is not None
    if config.lora is not None:
        return find_lora(config.model.load_checkpoint, flag="model.load_checkpoint")
    path = Path(config.model.load_checkpoint).expanduser()
    if path.is_file():
        return path
    steps = {
        int(match[1]): file
        for file in [*path.glob("*.safetensors"), *path.glob(f"{CHECKPOINTS}/*.safetensors")]
        if (match := WEIGHTS.fullmatch(file.name)) and file.name.startswith("model")
    }
    if not steps:
        raise UserError(
            f"model.load_checkpoint {path}: a model_weights_step_*.safetensors, or a folder with "
            "one in it, is wanted"
        )
    return steps[max(steps)]
