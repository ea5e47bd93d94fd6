"""A clip from a request: find the files, check them, make latents, decode, write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ltx_infer.config import GenerateConfig
from ltx_infer.decode import Written
from ltx_infer.job import Job, Say, check_place, negative_of, prepare_job
from ltx_infer.pipeline.embedding import dummy_contexts, embedded_contexts
from ltx_infer.pipeline.enhance import enhanced
from ltx_infer.pipeline.inputs import encode
from ltx_infer.pipeline.made_with import differences, made_with
from ltx_infer.pipeline.run import ClipLatents, Draw, Keep, Shared, clip_of, keep_nothing, run_each
from ltx_infer.pipeline.sanity import SanityError
from ltx_infer.pipeline.text import Contexts, encode_each
from ltx_infer.pipeline.unwritten import Unwritten, decoded, how_to_decode
from ltx_infer.plan.fit import compared, limits_for
from ltx_infer.plan.plan import Plan
from ltx_infer.progress import Report
from ltx_infer.sampling.state import Noise, seeded_noise
from ltx_infer.settings import CHOSEN, comment_of
from ltx_models import peak
from ltx_models.device import machine_memory

Planned = Callable[[Plan, int], None]  # a run's memory, and the bytes that it may take


def _quietly(*_: object) -> None:
    pass


class Outcome(NamedTuple):
    """What became of one clip of several."""

    config: GenerateConfig
    made: Written | SanityError


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
    noises = [noise or seeded_noise(config.seed)]
    (outcome,) = generate_each([config], report=report, say=say, noises=noises)
    if isinstance(outcome.made, SanityError):
        raise outcome.made
    return outcome.made


def generate_each(
    configs: Sequence[GenerateConfig],
    *,
    report: Report,
    say: Say = _quietly,
    noises: Sequence[Noise] | None = None,
    was_made_with: Mapping[str, Any] | None = None,
    planned: Planned = _quietly,
) -> Iterator[Outcome]:
    """Make clips that differ by prompt, seed and output alone; each network is loaded once.

    All are sampled, then all decoded, so that memory is that of one. What cannot be a clip is an
    outcome and does not end the others; all else is raised as by ``generate``, with the latents of
    every clip kept that is not written yet. ``was_made_with`` is what a clip that is repeated says
    of its models: what differs is told. ``planned`` is told what memory is planned, of how much.
    """
    for config in configs:
        check_place(config)
    job = prepare_job(configs[0], say=say, prompts=[config.text for config in configs])
    plan, limit = job.chosen.plan, machine_memory()
    planned(plan, limit)
    with limits_for(plan, limit=limit), peak.measured() as most:
        yield from _made(job, configs, noises, was_made_with, report=report, say=say)
    say(compared(plan, most.num_bytes))


def _made(
    job: Job,
    configs: Sequence[GenerateConfig],
    noises: Sequence[Noise] | None,
    was_made_with: Mapping[str, Any] | None,
    *,
    report: Report,
    say: Say,
) -> Iterator[Outcome]:
    about = made_with(
        job.models,
        job.loras,
        chosen_encoder=job.chosen_encoder,
        embedded_prompt=None if job.embedding is None else job.embedding.prompt,
    )
    about[CHOSEN] = _chosen(job)
    for line in differences(was_made_with or {}, about):
        say(line)
    configs = enhance_each(job, configs, report=report, say=say)
    own_sound = job.media.sound if "audio" in job.media.frozen else None
    how = {"tiling": job.chosen.choices.tiling}
    clips = [
        Unwritten(
            config.model_copy(update=how),
            job.models,
            job.size.fps,
            own_sound,
            comment_of(config, about),
        )
        for config in configs
    ]
    noises = noises or [seeded_noise(config.seed) for config in configs]
    failed = _sample_all(job, clips, noises, report=report)
    for number, clip in enumerate(clips):
        if number in failed:
            yield Outcome(clip.config, failed[number])
            continue
        label = "" if len(clips) == 1 else f", clip {number + 1} of {len(clips)}"
        try:
            made = decoded(clip, partial(_labelled, report, label))
        except BaseException as error:  # Ctrl-C too: sampling took the time, not this
            waiting = [each for at, each in enumerate(clips) if at >= number and at not in failed]
            error.add_note(how_to_decode("the latents", waiting))
            raise
        yield Outcome(clip.config, made)


def _chosen(job: Job) -> dict[str, Any]:
    """What the plan chose of that which may change the last digits of a clip, by field."""
    choices, recipe = job.chosen.choices, job.recipe
    found: dict[str, Any] = {"tiling": choices.tiling} if "video" in recipe.streams else {}
    if any(stage.guidance for stage in recipe.stages):
        found["max_batch_size"] = choices.max_batch_size
    return found


def _sample_all(
    job: Job, clips: Sequence[Unwritten], noises: Sequence[Noise], *, report: Report
) -> dict[int, SanityError]:
    """Leave the latents of every clip beside its output; why there are none, of those that fail."""
    good: dict[int, ClipLatents] = {}
    failed: dict[int, SanityError] = {}
    there: list[Unwritten] = []  # whose latents are beside their outputs
    configs = [clip.config for clip in clips]
    try:
        for number, made in make_each(job, configs, noises, report=report, keep=good.__setitem__):
            if isinstance(made, SanityError):
                failed[number] = made
                if number in good:
                    clips[number].keep(good.pop(number))
                    made.add_note(how_to_decode("the last good latents", [clips[number]]))
            else:
                clips[number].keep(made)
                there.append(clips[number])
                del good[number]
    except BaseException as error:  # Ctrl-C in a second stage, too
        for number, latents in good.items():
            clips[number].keep(latents)
            there.append(clips[number])
        if there:
            error.add_note(how_to_decode("the last good latents", there))
        raise
    return failed


def _labelled(report: Report, label: str, stage: str, done: int, total: int) -> None:
    report(f"{stage}{label}", done, total)


def enhance_each(
    job: Job, configs: Sequence[GenerateConfig], *, report: Report, say: Say
) -> list[GenerateConfig]:
    """The configurations with what Gemma made of their prompts, where that is asked for."""
    wanted = [each for each in configs if each.enhance_prompt and each.enhanced_prompt is None]
    if not wanted:
        return list(configs)
    report("prompt", 0, 1)
    texts, said = enhanced(job.models, job.recipe, job.media, [each.prompt for each in wanted])
    report("prompt", 1, 1)
    for line in said:
        say(line)
    found = {each.prompt: text or each.prompt for each, text in zip(wanted, texts, strict=True)}
    return [
        each.model_copy(update={"enhanced_prompt": found[each.prompt]}) if each in wanted else each
        for each in configs
    ]


def make_latents(job: Job, *, report: Report, noise: Noise) -> ClipLatents:
    """The latents of one clip: prompt, inputs, then every stage. Raises SanityError."""
    ((_, made),) = make_each(job, [job.config], [noise], report=report)
    if isinstance(made, SanityError):
        raise made
    return made


def make_each(
    job: Job,
    configs: Sequence[GenerateConfig],
    noises: Sequence[Noise],
    *,
    report: Report,
    keep: Keep = keep_nothing,
) -> Iterator[tuple[int, ClipLatents | SanityError]]:
    """The latents of clips by their places in ``configs``, as they are finished; see ``run_each``.

    The configurations differ from the job's by prompt, seed and output alone.
    """
    report("text", 0, 1)
    contexts = _contexts(job, [config.text for config in configs])
    report("text", 1, 1)
    inputs = encode(job.models, job.media, job.recipe, job.size, report=report)
    at_once = job.chosen.choices.max_batch_size
    shared = Shared(
        job.recipe, inputs, job.size, job.loras, at_once, placeholder=job.config.placeholder
    )
    draws = [Draw(*pair) for pair in zip(contexts, noises, strict=True)]
    for made in run_each(job.models, shared, draws, report=report, keep=keep):
        if isinstance(made.stages, SanityError):
            yield made.number, made.stages
        else:
            yield made.number, clip_of(job.recipe, made.stages)


def _contexts(job: Job, prompts: Sequence[str]) -> list[Contexts]:
    """What the transformer is told of each prompt."""
    given = (job.models, job.recipe)
    if job.embedding is not None:
        return [embedded_contexts(*given, job.embedding, loras=job.loras)] * len(prompts)
    if job.config.dummy_embeddings:
        return dummy_contexts(*given, prompts, negative_of(job.config), loras=job.loras)
    return encode_each(*given, prompts, negative_of(job.config), loras=job.loras)
