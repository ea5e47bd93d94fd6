"""A clip from a request: find the files, check them, make latents, decode, write."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltx_infer.combinations import GUIDED, faults
from ltx_infer.config import GenerateConfig
from ltx_infer.hub import ModelFiles, find_model
from ltx_infer.media.write import check_output, check_wav, write_clip, write_wav
from ltx_infer.pipeline.inputs import Media, encode
from ltx_infer.pipeline.loras import Loras, check_loras, open_loras
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.read import read_media, source_has_sound
from ltx_infer.pipeline.recipes import Facts, Recipe, make_recipe
from ltx_infer.pipeline.run import (
    ClipLatents,
    StageError,
    decode_audio,
    decode_video,
    encode_prompt,
    prompt_notes,
    run,
)
from ltx_infer.pipeline.sanity import check_sound, checked_frames
from ltx_infer.pipeline.saved import Saved, latents_path, load, save
from ltx_infer.progress import Report
from ltx_infer.sampling.state import Noise, seeded_noise
from ltx_models import blas
from ltx_models.checkpoint import open_checkpoint
from ltx_models.config import summarise
from ltx_models.device import compute_dtype, prepare
from ltx_models.errors import UserError
from ltx_models.upsampler import load_upsampler

NEGATIVE_PROMPT = (
    "blurry, out of focus, grainy, washed out, overexposed, distorted faces, extra limbs, "
    "jittery motion, frozen frames, watermark, subtitles, muffled or distorted sound, silence"
)
Say = Callable[[str], None]


def _quietly(_line: str) -> None:
    pass


class Written(NamedTuple):
    """What was made: the file, its number of frames, its sound's rate in Hz or None."""

    path: Path
    num_frames: int
    sampling_rate: int | None


class Job(NamedTuple):
    """A request with everything that was found for it, before any network has run."""

    config: GenerateConfig
    models: Models
    recipe: Recipe
    loras: Loras
    media: Media
    size: ClipSize


def generate(
    config: GenerateConfig,
    *,
    report: Report,
    say: Say = _quietly,
    noise: Noise | None = None,
) -> Written:
    """Make the clip that ``config`` asks for and write it to its ``output_path``.

    ``say`` is told in one line each what was decided. ``noise`` replaces the noise of the seed, to
    replay a recorded run. Raises UserError for what cannot be had or made, before anything long is
    begun where that can be known. Whatever ends it later, the last good latents lie beside the
    output, and a note of the exception says how to go on from them.
    """
    check_place(config)
    job = prepare_job(config, say=say)
    path = latents_path(config.output_path)
    try:
        latents = make_latents(job, report=report, noise=noise or seeded_noise(config.seed))
    except StageError as error:
        if error.latents is not None:
            save(path, _saved(job, error.latents))
            error.add_note(_kept("the last good latents", path, config.output_path))
        raise
    saved = _saved(job, latents)
    save(path, saved)
    try:
        written = decode(job.models, saved, config.output_path, report=report)
    except BaseException as error:  # Ctrl-C too: sampling took the time, not this
        error.add_note(_kept("the latents", path, config.output_path))
        raise
    path.unlink()
    return written


def _saved(job: Job, latents: ClipLatents) -> Saved:
    own_sound = job.media.sound if "audio" in job.media.frozen else None
    return Saved(latents, job.size.fps, job.config.model, own_sound)


def _kept(what: str, path: Path, output: Path) -> str:
    command = shlex.join(["ltx-generate", "--decode-only", str(path), "-o", str(output)])
    return f"To decode {what}: {command}"


def check_place(config: GenerateConfig) -> None:
    """Raise UserError unless the output can be written where it is asked for."""
    (check_wav if config.pipeline == "t2a" else check_output)(config.output_path)


def prepare_job(config: GenerateConfig, *, say: Say) -> Job:
    """Find, open and fit everything that a request needs; reads no weights."""
    blas.check()
    prepare()
    if wrong := config.size_faults():
        field, (value, rule) = next(iter(wrong.items()))
        raise UserError(f"{field}: {getattr(config, field)} is not {rule}; {value} would fit")
    if problems := faults(config):
        raise UserError(summarise(problems))
    models, facts, found = _open(config)
    recipe = make_recipe(config, facts)
    models.check()
    loras = open_loras(
        config,
        recipe,
        folder=models.checkpoint.path.parent,
        quantized=config.quantize is not None,
    )
    fitted = check_loras(models, loras, recipe)
    given = read_media(config, loras, version=models.checkpoint.version)
    models.latent_size(given.size)
    if "audio" in recipe.streams:
        models.num_audio_latents(given.size)
    cut = prompt_notes(models, recipe, config.prompt, _negative(config))
    for note in (*found, *recipe.notes, *loras.notes, *fitted, *given.notes, *cut):
        say(note)
    return Job(config, models, recipe, loras, given.media, given.size)


def _open(config: GenerateConfig) -> tuple[Models, Facts, list[str]]:
    variant = "dev" if config.pipeline in GUIDED else "distilled"
    files = find_model(config.model, variant=variant)
    checkpoint = open_checkpoint(files.checkpoint, allow_unknown=config.allow_unknown_config)
    models = Models(
        checkpoint=checkpoint,
        gemma=_text_encoder(config, files),
        upscaler=files.spatial_upscaler(config.spatial_upscaler) if config.two_stages else None,
        dtype=compute_dtype(),
        bits=config.quantize,
    )
    upscale = 2.0
    if models.upscaler is not None:
        upscale = load_upsampler(models.upscaler, dtype=models.dtype).config.spatial_scale
    size = ClipSize(config.num_frames, config.height, config.width, config.fps)
    frames, rows, columns = models.latent_size(size.of(0.5 if config.two_stages else 1))
    facts = Facts(
        version=checkpoint.version,
        variant=files.variant,
        num_layers=models.transformer_config.num_layers,
        first_tokens=frames * rows * columns,
        upscale=upscale,
        source_sound=source_has_sound(config),
    )
    return models, facts, files.notes


def _text_encoder(config: GenerateConfig, files: ModelFiles) -> Path:
    """The Gemma folder that was named, or the one beside the checkpoint."""
    if config.text_encoder_repo is None:
        return files.text_encoder()
    return Path(config.text_encoder_repo).expanduser()


def _negative(config: GenerateConfig) -> str:
    return NEGATIVE_PROMPT if config.negative_prompt is None else config.negative_prompt


def make_latents(job: Job, *, report: Report, noise: Noise) -> ClipLatents:
    """The latents of a clip: prompt, inputs, then every stage."""
    config = job.config
    report("text", 0, 1)
    contexts = encode_prompt(
        job.models, job.recipe, config.prompt, _negative(config), loras=job.loras
    )
    report("text", 1, 1)
    inputs = encode(job.models, job.media, job.recipe, job.size, report=report)
    found = run(
        job.models,
        job.recipe,
        contexts,
        inputs,
        job.size,
        loras=job.loras,
        noise=noise,
        report=report,
        max_batch_size=config.max_batch_size or 1,
    )
    return ClipLatents(found[-1].video, found[job.recipe.sound_of].audio)


def decode(models: Models, saved: Saved, output: Path, *, report: Report) -> Written:
    """Decode latents and write the clip, or a WAV where there is no picture."""
    sound = saved.sound
    if sound is None and saved.latents.audio is not None:
        report("sound", 0, 1)
        waveform, rate = decode_audio(models, saved.latents.audio)
        check_sound(waveform, stage="sound")
        report("sound", 1, 1)
    else:
        waveform, rate = (None, None) if sound is None else sound
    video = saved.latents.video
    if video is None:
        assert waveform is not None
        assert rate is not None
        write_wav(output, waveform, rate=rate)
        return Written(output, 0, rate)
    total = (video.shape[2] - 1) * models.video_config.scale.time + 1
    frames = _reported(decode_video(models, video), total, report)
    num_frames = write_clip(
        output,
        checked_frames(frames, stage="decode"),
        fps=saved.fps,
        audio=waveform,
        sampling_rate=rate,
    )
    return Written(output, num_frames, rate)


def decode_only(
    config_model: str | None, latents: Path, output: Path | None, *, report: Report
) -> Written:
    """Go on where a run stopped after its last stage; ``config_model`` replaces its --model.

    Without ``output`` it is output.mp4, or output.wav where there is no picture. Raises UserError
    for a file that ``save`` did not write or that another model's run left.
    """
    saved = load(latents)
    sound_only = saved.latents.video is None
    output = output or Path("output.wav" if sound_only else "output.mp4")
    (check_wav if sound_only else check_output)(output)
    blas.check()
    prepare()
    files = find_model(config_model or saved.model, variant="distilled")
    models = Models(
        checkpoint=open_checkpoint(files.checkpoint),
        gemma=files.folder,
        upscaler=None,
        dtype=compute_dtype(),
    )
    if strange := models.strange_latents(saved.latents.video, saved.latents.audio):
        raise UserError(f"--decode-only {latents}: {strange}; name the run's model with --model")
    return decode(models, saved, output, report=report)


def _reported(chunks: Iterator[np.ndarray], total: int, report: Report) -> Iterator[np.ndarray]:
    """Pass on chunks of frames and report each."""
    report("decode", 0, total)
    done = 0
    for chunk in chunks:
        done += len(chunk)
        yield chunk
        report("decode", done, total)
