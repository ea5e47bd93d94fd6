"""What is found for a request before any network runs: files, inputs, how it fits the memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ltx_infer.combinations import faults
from ltx_infer.config import GenerateConfig
from ltx_infer.hub.request import Files, fetch_distilled_lora, find_files
from ltx_infer.media.write import check_output, check_wav
from ltx_infer.pipeline.embedding import Embedding, check_embedding, read_embedding
from ltx_infer.pipeline.extras import check_extras, extras_of, output_notes, picture_path
from ltx_infer.pipeline.inputs import Media
from ltx_infer.pipeline.loras import Loras, check_loras, open_loras
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.read import read_media, source_has_sound
from ltx_infer.pipeline.recipes import Facts, Recipe, make_recipe
from ltx_infer.pipeline.saved import latents_path
from ltx_infer.pipeline.text import is_guided, prompt_notes
from ltx_infer.plan.fit import Chosen, check_fit, choose
from ltx_infer.plan.plan import Run, here
from ltx_models import blas
from ltx_models.checkpoint import open_checkpoint
from ltx_models.config import summarise
from ltx_models.device import compute_dtype, machine_memory, prepare
from ltx_models.errors import UserError
from ltx_models.upsampler import load_upsampler

NEGATIVE_PROMPT = (
    "blurry, out of focus, grainy, washed out, overexposed, distorted faces, extra limbs, "
    "jittery motion, frozen frames, watermark, subtitles, muffled or distorted sound, silence"
)
Say = Callable[[str], None]


class Job(NamedTuple):
    """A request with everything that was found for it, before any network has run."""

    config: GenerateConfig
    models: Models
    recipe: Recipe
    loras: Loras
    media: Media
    run: Run  # as its memory is planned
    chosen: Chosen
    embedding: Embedding | None = None
    chosen_encoder: str | None = None  # the repository of a Gemma, where memory decided

    @property
    def size(self) -> ClipSize:
        """Of the clip."""
        return self.run.size


def check_place(config: GenerateConfig) -> None:
    """Raise UserError unless the output can be written where it is asked for."""
    (check_wav if config.pipeline == "t2a" else check_output)(config.output_path)
    check_extras(config.output_path, extras_of(config))
    beside = [latents_path(config.output_path)]
    if config.skip_vae:
        beside.append(picture_path(config.output_path))
    if there := [path for path in beside if path.is_dir()]:
        raise UserError(f"{there[0]}: is a folder; a file of that name is to be written")


def prepare_job(
    config: GenerateConfig, *, say: Say, prompts: Sequence[str] = (), fitting: bool = True
) -> Job:
    """Find, open and fit everything that a request needs; reads no weights.

    ``prompts`` are those of all clips that it is for, where there are several. Without ``fitting``
    it need not fit the memory.
    """
    blas.check()
    prepare()
    if wrong := config.size_faults():
        field, (value, rule) = next(iter(wrong.items()))
        raise UserError(f"{field}: {getattr(config, field)} is not {rule}; {value} would fit")
    if problems := faults(config):
        raise UserError(summarise(problems))
    models, facts, files = _open(config, say=say)
    found = files.model
    recipe = make_recipe(config, facts)
    models.check()
    if any(recipe.distilled_strengths):
        fetch_distilled_lora(config, found)
    loras = open_loras(config, recipe, folder=found.folder, stored=models.stored)
    loras = loras._replace(say=say)
    fitted = check_loras(models, loras, recipe)
    given = read_media(config, loras, version=models.checkpoint.version)
    models.latent_size(given.size)
    if "audio" in recipe.streams:
        models.num_audio_latents(given.size)
    embedding = None
    if config.embedding is not None:
        embedding = read_embedding(config.embedding)
        fitted += check_embedding(embedding, models, recipe, loras)
    cut = prompt_notes(models, recipe, prompts or [config.text], negative_of(config))
    if config.dummy_embeddings:
        fitted.append("--dummy-embeddings: random numbers, which the prompt only seeds")
    cut += output_notes(config, sound="audio" in recipe.streams)
    for note in (*found.notes, *recipe.notes, *loras.notes, *fitted, *given.notes, *cut):
        say(note)
    run = Run(models, recipe, given.size, loras, given.media, num_clips=len(prompts or [""]))
    run = _with_texts(run, config, prompts or [config.text], embedding)
    run = run._replace(decodes=not config.skip_vae, samples=not config.placeholder)
    on, limit = here(models.dtype), machine_memory()
    chosen = choose(run, config, on, limit=limit)
    if fitting:
        check_fit(run, config, chosen, on, limit=limit)
    job = Job(config, models, recipe, loras, given.media, run, chosen)
    return job._replace(embedding=embedding, chosen_encoder=files.chosen_encoder)


def _with_texts(
    run: Run, config: GenerateConfig, prompts: Sequence[str], embedding: Embedding | None
) -> Run:
    """A run with the texts that Gemma reads, or how many come to the connectors."""
    guided = is_guided(run.recipe)
    if config.reads_prompts:
        negative = [negative_of(config)] if guided else []
        return run._replace(prompts=[*dict.fromkeys([*prompts, *negative])])
    if embedding is not None and embedding.context is not None:
        return run
    return run._replace(num_connected=run.num_clips * (1 + guided))


def _open(config: GenerateConfig, *, say: Say) -> tuple[Models, Facts, Files]:
    found = find_files(config, say=say)
    checkpoint = open_checkpoint(found.model.checkpoint, allow_unknown=config.allow_unknown_config)
    models = Models(
        checkpoint=checkpoint,
        gemma=found.gemma,
        upscaler=found.upscaler,
        temporal_upscaler=found.temporal_upscaler and found.temporal_upscaler.absolute(),
        dtype=compute_dtype(),
        bits=config.quantize,
        low_memory=config.low_memory,
        say=say,
    )
    upscale = 2.0
    if models.upscaler is not None:
        upscale = load_upsampler(models.upscaler, dtype=models.dtype).config.spatial_scale
    size = ClipSize(config.num_frames, config.height, config.width, config.fps)
    frames, rows, columns = models.latent_size(size.of(0.5 if config.two_stages else 1))
    facts = Facts(
        version=checkpoint.version,
        variant=found.model.variant,
        num_layers=models.transformer_config.num_layers,
        first_tokens=frames * rows * columns,
        upscale=upscale,
        source_sound=source_has_sound(config),
    )
    return models, facts, found


def negative_of(config: GenerateConfig) -> str:
    """The negative prompt of a request."""
    return NEGATIVE_PROMPT if config.negative_prompt is None else config.negative_prompt
