"""From the configuration's samples to clips that are decided: streams, size, seed, recipe.

``at`` is the path of a sample's keys, which begins every message about it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Recipe, Stage
from ltx_infer.sampling.guidance import Guidance, check_blocks, scaled_blocks
from ltx_infer.sampling.sigmas import DISTILLED, shifted
from ltx_models.errors import UserError
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.model import BOTH
from ltx_train.config import TrainConfig, ValidationConfig, ValidationSample
from ltx_train.config.validation import GIVES_ALL, ReferenceSample, stream_of
from ltx_train.model import run_streams

Variant = Literal["dev", "distilled"]
SOUNDLESS = "a single frame has no sound"
DEFAULT_BLOCKS = ValidationConfig().stg_blocks


class Plan(NamedTuple):
    """One clip to make."""

    at: str  # as validation.samples.0
    sample: ValidationSample
    size: ClipSize
    seed: int
    recipe: Recipe
    frozen: Streams  # streams that a condition gives as a whole


def is_due(validation: ValidationConfig, step: int) -> bool:
    """Whether there is a validation after ``step`` steps; that at 0 is the base to compare with."""
    if validation.interval is None:
        return False
    return step % validation.interval == 0 and (step > 0 or not validation.skip_initial_validation)


def reference_notes(validation: ValidationConfig, factors: tuple[int, int]) -> list[str]:
    """A line for each reference of the picture that is not as those that are trained on.

    ``factors`` say how many times smaller these are in space, and slower in time.
    """
    notes = []
    keys = ("downscale_factor", "temporal_scale_factor")
    for index, sample in enumerate(validation.samples if validation.interval else ()):
        for number, one in enumerate(sample.conditions):
            if not isinstance(one, ReferenceSample) or one.video is None:
                continue
            notes += [
                f"validation.samples.{index}.conditions.{number}.{key} is {getattr(one, key)}, "
                f"but of the references that are trained on it is {factor}"
                for key, factor in zip(keys, factors, strict=True)
                if getattr(one, key) != factor
            ]
    return notes


def plan_samples(
    config: TrainConfig, models: Models, *, variant: Variant | None
) -> tuple[list[Plan], list[str]]:
    """The clips of a run, and one line for each thing that was decided.

    ``variant`` is what the checkpoint's name says; a name that says nothing is a distilled one's
    where ``model.allow_distilled`` is set. Raises UserError for what the run or this checkpoint
    cannot make.
    """
    validation, notes = config.validation, list[str]()
    distilled = variant == "distilled" or (variant is None and config.model.allow_distilled)
    if distilled:
        sigmas = DISTILLED
        notes.append(
            f"validation: distilled weights have {len(sigmas) - 1} noise levels of their own and "
            "no guidance; inference_steps and the scales are not used"
        )
    else:
        sigmas = shifted(validation.inference_steps)
    blocks = _blocks(validation, models.transformer_config.num_layers, notes)
    plans = []
    for index, sample in enumerate(validation.samples):
        at = f"validation.samples.{index}"
        size = _size(validation, sample, models, at)
        given = {GIVES_ALL.get(condition.type) for condition in sample.conditions}
        frozen: Streams = tuple(name for name in BOTH if name in given)
        streams = _streams(config, sample, size, at=at, frozen=frozen, notes=notes)
        if "audio" in streams:
            with told(_dims_at(sample, at)):
                models.num_audio_latents(size)
        guidance: Mapping[StreamName, Guidance] = {}
        if not distilled:
            guidance = _guidance(validation, streams, frozen, blocks, notes)
        stage = Stage(name="sampling", share=1.0, sigmas=sigmas, guidance=guidance, references=True)
        seed = validation.seed if sample.seed is None else sample.seed
        recipe = Recipe(stages=(stage,), streams=streams)
        plans.append(Plan(at, sample, size, seed, recipe, frozen))
    return plans, list(dict.fromkeys(notes))


@contextmanager
def told(at: str) -> Iterator[None]:
    """UserErrors of the block with the path of the key that they come from."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{at}: {error}") from None


def _dims_at(sample: ValidationSample, at: str) -> str:
    return "validation.video_dims" if sample.video_dims is None else f"{at}.video_dims"


def _size(
    validation: ValidationConfig, sample: ValidationSample, models: Models, at: str
) -> ClipSize:
    width, height, num_frames = sample.video_dims or validation.video_dims
    size = ClipSize(num_frames, height, width, validation.frame_rate)
    with told(_dims_at(sample, at)):
        models.latent_size(size)
    return size


def _streams(
    config: TrainConfig,
    sample: ValidationSample,
    size: ClipSize,
    *,
    at: str,
    frozen: Streams,
    notes: list[str],
) -> Streams:
    """What the clip is made of. Raises UserError for conditions of another stream."""
    missing = _missing(config, size, frozen)
    streams: Streams = tuple(name for name in BOTH if name not in missing)
    for index, condition in enumerate(sample.conditions):
        name = stream_of(condition)
        if name in missing:
            raise UserError(
                f"{at}.conditions.{index}: {condition.type} is for the {name}, which is not made: "
                f"{missing[name]}"
            )
    if all(name in frozen for name in streams):
        raise UserError(f"{at}: nothing is made: {'; '.join(missing.values())}")
    for name, why in missing.items():
        if why == SOUNDLESS or why.startswith("training_strategy"):
            notes.append(f"validation: clips without {name}: {why}")
    return streams


def _missing(config: TrainConfig, size: ClipSize, frozen: Streams) -> dict[StreamName, str]:
    """The streams that a clip does without, and why."""
    asked = {"video": config.validation.generate_video, "audio": config.validation.generate_audio}
    run, found = run_streams(config.training_strategy), dict[StreamName, str]()
    for name in BOTH:
        if not asked[name] and name not in frozen:
            found[name] = f"validation.generate_{name} is false"
        elif name not in run:
            found[name] = f"training_strategy has no {name}"
        elif name == "audio" and size.num_frames == 1 and "video" not in found:
            found[name] = SOUNDLESS
    return found


def _blocks(validation: ValidationConfig, num_layers: int, notes: list[str]) -> tuple[int, ...]:
    """The blocks without self-attention; the default names one of the released models' 48."""
    blocks = validation.stg_blocks
    if blocks is None:
        return tuple(range(num_layers))
    if blocks == DEFAULT_BLOCKS:
        scaled = scaled_blocks(blocks, num_layers)
        if scaled != blocks:
            notes.append(
                f"validation.stg_blocks: {list(scaled)} of {num_layers} blocks stand for "
                f"{list(blocks)} of 48"
            )
        return scaled
    with told("validation.stg_blocks"):
        check_blocks({"video": Guidance(stg_blocks=blocks)}, num_layers=num_layers)
    return blocks


def _guidance(
    validation: ValidationConfig,
    streams: Streams,
    frozen: Streams,
    blocks: tuple[int, ...],
    notes: list[str],
) -> dict[StreamName, Guidance]:
    """Scales of the streams that are made."""
    scales: dict[StreamName, tuple[float, float, float]] = {
        "video": (
            validation.video_cfg_scale,
            validation.video_stg_scale,
            validation.video_modality_guidance_scale,
        ),
        "audio": (
            validation.audio_cfg_scale,
            validation.audio_stg_scale,
            validation.audio_modality_guidance_scale,
        ),
    }
    guided: dict[StreamName, Guidance] = {}
    for name in streams:
        cfg, stg, modality = scales[name]
        if name in frozen:
            continue
        if len(streams) == 1 and modality != 1:
            if (key := f"{name}_modality_guidance_scale") in validation.model_fields_set:
                notes.append(f"validation.{key}: not used, as {name} is alone")
            modality = 1.0
        guided[name] = Guidance(
            cfg=cfg,
            stg=stg,
            modality=modality,
            rescale=validation.guidance_rescale,
            stg_blocks=blocks,
        )
    return guided
