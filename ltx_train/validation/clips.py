"""The clips of one validation: sampled by ltx-generate's own loop, decoded and written."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.media.write import write_clip, write_wav
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.run import ClipLatents, decode_audio, decode_video, run
from ltx_infer.pipeline.sanity import SanityError, check_sound, checked_frames
from ltx_infer.progress import Report
from ltx_infer.sampling.conditions import Reference
from ltx_infer.sampling.state import seeded_noise
from ltx_models.files import unfinished
from ltx_models.transformer.model import Transformer
from ltx_train.config.validation import ReferenceSample
from ltx_train.output.layout import SAMPLES
from ltx_train.step import TrainState, installer
from ltx_train.validation.prepare import PreparedSample, Validation


class MadeClip(NamedTuple):
    """What became of a sample."""

    prompt: str
    path: Path | None  # None where there is nothing that could be shown
    faults: tuple[str, ...]  # what the checks of ltx-generate say of it, a line each


class _Sound(NamedTuple):
    """A waveform (2, samples) and its rate; None where there is no sound."""

    waveform: np.ndarray
    rate: int


@contextmanager
def saved_weights(model: Transformer, state: TrainState) -> Iterator[None]:
    """The model with the weights that would be saved, for the block: the average if one is kept."""
    if not state.average:
        yield
        return
    install = installer(model)
    install(state.average)
    try:
        yield
    finally:
        install(state.parameters)


def make_clips(
    model: Transformer, validation: Validation, folder: Path, step: int, *, report: Report
) -> list[MadeClip]:
    """Make every sample's clip with the model as it is: ``folder/samples/step_000000_1.mp4``, ...

    ``folder`` is the run's. A still is a PNG, sound alone a WAV. Decoders are loaded for a clip
    and freed after it; model and random numbers stay as they are. A clip that is not plausible
    stops nothing: its faults say so, and where none of it can be shown there is no file.
    ``report`` may stop it by what it raises. Raises UserError where a file cannot be written.
    """
    made: list[MadeClip] = []
    (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
    models = replace(validation.models, live=model)
    label, total = f"validation at step {step}", len(validation.samples)
    for number, sample in enumerate(validation.samples):
        begun = partial(report, label, number, total)
        begun()
        path = folder / SAMPLES / f"step_{step:06}_{number + 1}"
        made.append(_make(models, sample, path, begun))
        mx.clear_cache()
        report(label, number + 1, total)
    return made


def _make(
    models: Models, sample: PreparedSample, stem: Path, begun: Callable[[], None]
) -> MadeClip:
    """Make a clip; ``begun`` is called at each noise level, since one may take minutes."""
    plan, faults = sample.plan, list[str]()
    path = None
    try:
        (latents,) = run(
            models,
            plan.recipe,
            sample.contexts,
            [sample.inputs],
            plan.size,
            noise=seeded_noise(plan.seed),
            report=lambda *_: begun(),
        )
        path = _write(models, sample, latents, stem, faults)
    except SanityError as error:
        faults.append(_first_line(error))
    return MadeClip(plan.sample.prompt, path, tuple(faults))


def _write(
    models: Models, sample: PreparedSample, latents: ClipLatents, stem: Path, faults: list[str]
) -> Path:
    """Decode and write a clip; what is strange about it, but can be shown, goes to ``faults``."""
    size, sound = sample.plan.size, _sound(models, sample, latents, faults)
    if latents.video is None:
        assert sound is not None  # a sample makes something
        path = stem.with_suffix(".wav")
        write_wav(path, sound.waveform, rate=sound.rate)
        return path
    decoded = decode_video(models, latents.video)
    frames = _beside(models, sample, _judged(decoded, size.num_frames, faults))
    if size.num_frames == 1:
        path = stem.with_suffix(".png")
        _write_still(path, frames)
        return path
    path = stem.with_suffix(".mp4")
    waveform, rate = (None, None) if sound is None else sound
    write_clip(path, frames, fps=size.fps, audio=waveform, sampling_rate=rate)
    return path


def _sound(
    models: Models, sample: PreparedSample, latents: ClipLatents, faults: list[str]
) -> _Sound | None:
    if sample.sound is not None:
        return _Sound(*sample.sound)
    if latents.audio is None:
        return None
    waveform, rate = decode_audio(models, latents.audio)
    try:
        check_sound(waveform, stage="sound")
    except SanityError as error:
        if not np.isfinite(waveform).all():
            raise
        faults.append(_first_line(error))
    return _Sound(waveform, rate)


def _judged(
    chunks: Iterable[np.ndarray], num_frames: int, faults: list[str]
) -> Iterator[np.ndarray]:
    """Chunks of frames; what is said of all of them at their end is a fault, and no error."""
    done = 0
    try:
        for chunk in checked_frames(chunks, stage="decode"):
            done += len(chunk)
            yield chunk
    except SanityError as error:
        if done < num_frames:
            raise
        faults.append(_first_line(error))


def _beside(
    models: Models, sample: PreparedSample, chunks: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """Chunks of frames, on the left of each the references that are to be shown."""
    asked = [
        condition.include_in_output
        for condition in sample.plan.sample.conditions
        if isinstance(condition, ReferenceSample) and condition.video is not None
    ]
    references = [each for each in sample.inputs.video if isinstance(each, Reference)]
    shown = [_frames(models, each) for each, ask in zip(references, asked, strict=True) if ask]
    start = 0
    for chunk in chunks:
        stop = start + len(chunk)
        pixels = np.rint(np.clip(chunk, 0, 1) * 255).astype(np.uint8)
        yield np.concatenate([*(each[start:stop] for each in shown), pixels], axis=2)
        start = stop


def _frames(models: Models, reference: Reference) -> np.ndarray:
    """What a reference's latents decode to, as long and as large as the clip, in bytes."""
    chunks = decode_video(models, reference.latents)
    frames = np.concatenate(
        [np.rint(np.clip(chunk, 0, 1) * 255).astype(np.uint8) for chunk in chunks]
    )
    later = frames[1:].repeat(reference.time_factor, axis=0)
    whole = np.concatenate([frames[:1], later])
    return whole.repeat(reference.space_factor, axis=1).repeat(reference.space_factor, axis=2)


def _write_still(path: Path, frames: Iterator[np.ndarray]) -> None:
    from PIL import Image  # noqa: PLC0415

    (chunk,) = frames
    with unfinished(path) as part:
        Image.fromarray(chunk[0]).save(part, format="PNG")


def _first_line(error: SanityError) -> str:
    """What was seen; the rest is advice on flags."""
    return str(error).splitlines()[0]
