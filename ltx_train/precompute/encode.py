"""Decoded clips, sounds, references and masks to files (spec/training.md 1.4).

Latents are normalised, and float32 as the tiles of a clip are added up in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import mlx.core as mx
import numpy as np

from ltx_infer.progress import Report
from ltx_models.audio_vae import AudioEncoder, encode_waveform
from ltx_models.errors import UserError
from ltx_models.files import write_tensors
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.tiling import tiled_encode
from ltx_train.data.layout import KINDS, LATENTS, MASK, Kind, sample_path
from ltx_train.inputs.item import Outcome
from ltx_train.inputs.sheet import Seen
from ltx_train.precompute.store import BETWEEN, HASH, NOTES
from ltx_train.precompute.tasks import (
    AUDIO_KINDS,
    Plan,
    Task,
    num_sound_latents,
    tasks_of,
    wanted_kinds,
)
from ltx_train.reading.ahead import Result, Worker, decode_ahead, num_workers
from ltx_train.reading.decode import Decoded
from ltx_train.reading.masks import sound_weights

STAGES: dict[Kind, str] = {
    LATENTS: "latents",
    "audio_latents": "sound",
    "reference_latents": "references",
    "reference_audio_latents": "reference sound",
    "video_masks": "masks",
    "audio_masks": "sound masks",
}
WORDS: dict[Kind, str] = {  # for what a message is about
    "reference_latents": "its reference: ",
    "reference_audio_latents": "its reference sound: ",
    "video_masks": "its mask: ",
    "audio_masks": "its sound mask: ",
}
Encode = Callable[[Task, Result], mx.array]


@dataclass
class Work:
    """What is to be made of which clips, by whom, and what became of them so far."""

    seen: Sequence[Seen]
    plan: Plan
    pool: list[Worker]
    report: Report
    faults: dict[str, Outcome] = field(default_factory=dict)  # by the names of the clips
    written: set[str] = field(default_factory=set)  # names of those of which a file was written
    mute: set[str] = field(default_factory=set)  # names of those with an empty sound track

    @property
    def whole(self) -> list[Seen]:
        """The clips that nothing has hindered."""
        return [
            one._replace(has_sound=one.has_sound and one.item.name not in self.mute)
            for one in self.seen
            if one.item.name not in self.faults
        ]


def encode_pictures(work: Work, encoder: VideoEncoder) -> None:
    """Latents of clips, and then of references."""
    encode = partial(_video_latents, encoder)
    for kind in (LATENTS, "reference_latents"):
        _write_kind(kind, work, encode)


def encode_sounds(work: Work, encoder: AudioEncoder) -> None:
    """Latents of sounds, and then of reference sounds."""
    encode = partial(_sound_latents, encoder, work.plan)
    for kind in AUDIO_KINDS:
        _write_kind(kind, work, encode)


def write_masks(work: Work) -> None:
    """Masks on the grids of the latents."""
    for kind in ("video_masks", "audio_masks"):
        _write_kind(kind, work, partial(_mask, work.plan))


def _write_kind(kind: Kind, work: Work, encode: Encode) -> None:
    """The files of one kind, of all clips that nothing has hindered yet."""
    tasks = list(tasks_of(kind, work.whole, work.plan))
    if not tasks:
        return
    work.report(STAGES[kind], 0, len(tasks))
    most = num_workers(max(task.num_bytes for task in tasks))
    results = decode_ahead(((task, task.job) for task in tasks), work.pool, most=most)
    for number, (task, result) in enumerate(results, 1):
        fault = _fault(task, result.decoded)
        if result.decoded.is_mute and task.job.source == task.item.path:
            task.path.unlink(missing_ok=True)
            work.mute.add(task.item.name)
            fault = None
        elif fault is None and result.array is not None:
            if kind == LATENTS:
                _remove_unasked(task, work)
            fault = _write(task, result, encode)
            work.written.add(task.item.name)
        if fault is not None:
            work.faults[task.item.name] = fault
        work.report(STAGES[kind], number, len(tasks))


def _fault(task: Task, decoded: Decoded) -> Outcome | None:
    """What hinders a file's reading."""
    name, bucket = task.item.name, task.about.get("bucket")
    wanted = task.job.num_frames
    if decoded.num_frames is not None and task.kind == LATENTS:
        why = f"too short: {decoded.num_frames} frames, {bucket} needs {wanted}"
        return Outcome(name, "skipped", why)
    if decoded.num_frames is not None:
        why = f"too short: {decoded.num_frames} frames, the clip's {bucket} needs {wanted}"
        return Outcome(name, "failed", f"{WORDS[task.kind]}{why}")
    if decoded.fault:
        why = decoded.fault.removeprefix(f"{task.item.path}: ")
        return Outcome(name, "failed", f"{WORDS.get(task.kind, '')}{why}")
    return None


def _write(task: Task, result: Result, encode: Encode) -> Outcome | None:
    """Encode what was read and write the file; what hinders it."""
    name, decoded = task.item.name, result.decoded
    try:
        encoded = encode(task, result)
    except UserError as error:
        return Outcome(name, "failed", " ".join(str(error).split("\n")))
    if not mx.isfinite(encoded).all():
        return Outcome(name, "failed", f"what is made of it for {task.kind} is not all finite")
    about = {**task.about, HASH: decoded.source_sha256}
    if decoded.notes:
        about[NOTES] = BETWEEN.join(decoded.notes)
    write_tensors(task.path, {MASK if "mask" in task.kind else LATENTS: encoded}, about)
    return None


def _remove_unasked(task: Task, work: Work) -> None:
    """Files of earlier runs that this run does not make: they are of the clip as it was."""
    (seen,) = (one for one in work.seen if one.item is task.item)
    for kind in {*KINDS} - {"conditions", *wanted_kinds(seen, work.plan)}:
        sample_path(work.plan.config.output_dir, kind, task.item.stem).unlink(missing_ok=True)


def _video_latents(encoder: VideoEncoder, _task: Task, result: Result) -> mx.array:
    """Frames (F, 3, H, W) to latents (C, F', H', W')."""
    assert result.array is not None
    return tiled_encode(encoder, result.array.swapaxes(0, 1)[None])[0]


def _sound_latents(encoder: AudioEncoder, plan: Plan, task: Task, result: Result) -> mx.array:
    """(2, samples) to latents (C, T, M), as many as the frames take time.

    There are always enough: N mel frames of four to a latent begin before the sound's end.
    """
    assert result.array is not None
    waveform, rate = result.array[None], result.decoded.rate
    latents = encode_waveform(encoder, waveform, sampling_rate=rate)[0]
    return latents[:, : num_sound_latents(task.job, plan)]


def _mask(plan: Plan, task: Task, result: Result) -> mx.array:
    """The mask of a video as it is; the loudness (samples,) of a sound's, to (T,)."""
    assert result.array is not None
    if plan.audio_config is None or task.kind == "video_masks":
        return result.array
    return mx.array(
        sound_weights(
            np.array(result.array),
            rate=result.decoded.rate,
            num_latents=num_sound_latents(task.job, plan),
            scale=plan.audio_config.scale,
        )
    )
