"""What clips are made of, made once before training, so that only decoders are loaded later."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.hub import ModelFiles
from ltx_infer.job import NEGATIVE_PROMPT
from ltx_infer.media.write import Sound
from ltx_infer.pipeline.inputs import StageInputs
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.text import Contexts, contexts_of
from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_models.text_encoder import PromptContext, encode_prompts, num_tokens_left_out
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_train.config import TrainConfig
from ltx_train.validation.encode import encode_plans
from ltx_train.validation.media import read_given
from ltx_train.validation.samples import Plan, plan_samples


class PreparedSample(NamedTuple):
    """One clip, with everything that the transformer is given for it."""

    plan: Plan
    contexts: Contexts
    inputs: StageInputs
    sound: Sound | None  # that is given as a whole, and goes into the clip as it is


class Validation(NamedTuple):
    """The clips of a run, made anew at every validation from the same prompts and seeds."""

    models: Models  # files, from which the decoders are loaded
    samples: tuple[PreparedSample, ...]
    notes: tuple[str, ...]  # what was decided, one line each


class _Opened(NamedTuple):
    """What is known without weights."""

    models: Models
    plans: list[Plan]
    notes: list[str]


def check_validation(
    config: TrainConfig, checkpoint: Checkpoint, files: ModelFiles, *, dtype: mx.Dtype
) -> list[str]:
    """Read all that the samples name, and say what was decided, a line each; reads no weights.

    ``files`` is what ``find_model`` found, ``checkpoint`` its file, opened. Raises UserError with
    the path of the key for whatever would keep a clip from being made.
    """
    opened = _open(config, checkpoint, files, dtype=dtype)
    return [] if opened is None else opened.notes


def prepare_validation(
    config: TrainConfig, checkpoint: Checkpoint, files: ModelFiles, *, dtype: mx.Dtype
) -> Validation:
    """Encode prompts and media, in ``dtype``; every network is freed again.

    To be called before the base is loaded, as the text encoder is large. Nothing is read where
    there are no samples or ``validation.interval`` is null. Raises UserError as
    ``check_validation``.
    """
    opened = _open(config, checkpoint, files, dtype=dtype)
    if opened is None:
        models = Models(checkpoint, gemma=None, upscaler=None, dtype=dtype)
        return Validation(models, (), ())
    models, plans, notes = opened
    contexts = _contexts(config, models, plans)
    inputs = encode_plans(plans, models)
    samples = [
        PreparedSample(plan, told, given, _own_sound(plan, models))
        for plan, told, given in zip(plans, contexts, inputs, strict=True)
    ]
    return Validation(models, tuple(samples), tuple(notes))


def _open(
    config: TrainConfig, checkpoint: Checkpoint, files: ModelFiles, *, dtype: mx.Dtype
) -> _Opened | None:
    if not config.validation.samples or config.validation.interval is None:
        return None
    gemma = _text_encoder(config, files)
    models = Models(checkpoint, gemma, upscaler=None, dtype=dtype)
    plans, notes = plan_samples(config, models, variant=files.variant)
    for plan in plans:
        notes += read_given(plan, models)[1]
    models.check()
    lengths = num_tokens_left_out(gemma, [plan.sample.prompt for plan in plans])
    notes += [
        f"{plan.at}.prompt: its last {left_out} tokens are left out; {MAX_LENGTH} are read"
        for plan, left_out in zip(plans, lengths, strict=True)
        if left_out
    ]
    return _Opened(models, plans, notes)


def _text_encoder(config: TrainConfig, files: ModelFiles) -> Path:
    named = config.model.text_encoder_path
    if named is None:
        try:
            return files.text_encoder()
        except UserError as error:
            raise UserError(
                f"model.text_encoder_path: {str(error).splitlines()[0]}\n"
                "Name one, as prompts of validation.samples need it, or set validation.interval "
                "to null"
            ) from None
    path = files.text_encoder(named, flag="model.text_encoder_path")
    if not path.is_dir():
        raise UserError(f"model.text_encoder_path {named}: there is no such folder")
    return path


def _contexts(config: TrainConfig, models: Models, plans: Sequence[Plan]) -> list[Contexts]:
    """Of each clip; a prompt that several have is encoded once, as is the negative one."""
    negative = config.validation.negative_prompt
    negative = NEGATIVE_PROMPT if negative is None else negative
    guided = [_reads_negative(plan) for plan in plans]
    assert models.gemma is not None  # where there are samples
    prompts = list(dict.fromkeys(plan.sample.prompt for plan in plans))
    if any(guided) and negative not in prompts:
        prompts.append(negative)
    encoded: dict[str, PromptContext] = dict(
        zip(
            prompts,
            encode_prompts(
                models.gemma,
                models.checkpoint,
                prompts,
                dtype=models.dtype,
                audio=any("audio" in plan.recipe.streams for plan in plans),
            ),
            strict=True,
        )
    )
    return [
        contexts_of(
            plan.recipe, encoded[plan.sample.prompt], encoded[negative] if is_guided else None
        )
        for plan, is_guided in zip(plans, guided, strict=True)
    ]


def _reads_negative(plan: Plan) -> bool:
    return any(given.cfg != 1 for given in plan.recipe.stages[0].guidance.values())


def _own_sound(plan: Plan, models: Models) -> Sound | None:
    if "audio" not in plan.frozen:
        return None
    found, _ = read_given(plan, models)
    return next(each.sound for each in found if each.condition.type == "audio_to_video")
