"""What files a run is to make of each clip, from what, and what each is to say of itself."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_infer.media.resize import MIDDLE, Place
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint
from ltx_models.transformer.patchify import VideoScale
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.data.layout import LATENTS, Kind, sample_path
from ltx_train.inputs.item import Item
from ltx_train.inputs.sheet import Seen
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.store import Maker, encoder_of, known_hash
from ltx_train.reading.decode import Job, What

Metadata = dict[str, str]
SECOND_OF_SOUND = 2 * 4 * 48000  # bytes
AUDIO_KINDS: tuple[Kind, ...] = ("audio_latents", "reference_audio_latents")


class Plan(NamedTuple):
    """What decides, besides a clip itself, how its files are made."""

    config: PrecomputeConfig
    video: Maker
    video_scale: VideoScale
    audio: Maker | None = None  # where no sound is encoded and no mask of one is made
    audio_config: AudioVAEConfig | None = None


class Task(NamedTuple):
    """One file to make; ``about`` is its metadata but for what only the source tells."""

    item: Item
    kind: Kind
    path: Path
    job: Job
    about: Metadata

    @property
    def num_bytes(self) -> int:
        """How much is decoded for it."""
        job = self.job
        if job.what in ("sound", "sound mask"):
            return round(job.num_frames / job.fps * SECOND_OF_SOUND)
        return 3 * 4 * job.num_frames * job.height * job.width


def make_plan(config: PrecomputeConfig, checkpoint: Checkpoint, seen: Sequence[Seen]) -> Plan:
    """The plan of a run; the header of the checkpoint is read."""
    video = encoder_of(checkpoint, "vae")
    plan = Plan(config, video, checkpoint.section("vae", VideoVAEConfig).scale)
    items = [one.item for one in seen]
    if config.with_audio or any(item.reference_audio or item.audio_mask for item in items):
        maker = encoder_of(checkpoint, "audio_vae")
        sound = checkpoint.section("audio_vae", AudioVAEConfig)
        plan = plan._replace(audio=maker, audio_config=sound)
    return plan


def wanted_kinds(seen: Seen, plan: Plan) -> list[Kind]:
    """The kinds of files that this run makes of a clip, besides its text features."""
    item = seen.item
    asked: dict[Kind, object] = {
        LATENTS: True,
        "audio_latents": plan.config.with_audio and seen.has_sound,
        "reference_latents": item.reference_video,
        "reference_audio_latents": item.reference_audio,
        "video_masks": item.video_mask,
        "audio_masks": item.audio_mask,
    }
    return [kind for kind, wanted in asked.items() if wanted]


def tasks_of(kind: Kind, seen: Sequence[Seen], plan: Plan) -> Iterator[Task]:
    """A task for every clip of which this kind is wanted."""
    for one in seen:
        if kind not in wanted_kinds(one, plan):
            continue
        path = sample_path(plan.config.output_dir, kind, one.item.stem)
        job, about = DESCRIBE[kind](one, plan)
        about = {"source": _source_name(job.source, one.item), **about}
        known = "" if plan.config.overwrite else known_hash(path, about)
        yield Task(one.item, kind, path, job._replace(known_hash=known), about)


def _source_name(source: Path, item: Item) -> str:
    return item.name if source == item.path else os.fspath(source)


def _place(item: Item, plan: Plan) -> Place:
    """Where a clip, its reference and its mask are cut; a random place depends on the name only."""
    if plan.config.crop == "center":
        return MIDDLE
    digest = hashlib.sha256(item.name.encode()).digest()
    down, across = (int.from_bytes(part) / 2**32 for part in (digest[:4], digest[4:8]))
    return down, across


def _frames_job(seen: Seen, plan: Plan, what: What, source: Path) -> Job:
    return Job(
        what,
        source,
        num_frames=seen.bucket.num_frames,
        fps=seen.fps,
        height=seen.bucket.height,
        width=seen.bucket.width,
        place=_place(seen.item, plan),
        is_still=seen.is_still,
    )


def _grid(job: Job, scale: VideoScale) -> tuple[int, int, int]:
    """Latent frames, rows and columns of what a job reads."""
    kept = 1 + (job.num_frames - 1) // job.every
    return 1 + (kept - 1) // scale.time, job.height // scale.space, job.width // scale.space


def _about_picture(seen: Seen, plan: Plan, job: Job) -> Metadata:
    sizes = _grid(job, plan.video_scale)
    return {
        "bucket": str(seen.bucket),
        "crop": plan.config.crop,
        "fps": str(float(job.fps / job.every)),
        **dict(zip(("num_frames", "height", "width"), map(str, sizes), strict=True)),
    }


def _latents(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    job = _frames_job(seen, plan, "frames", seen.item.path)
    return job, {**plan.video.about, **_about_picture(seen, plan, job)}


def _reference(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    """Smaller by the spatial factor, and of the frames after the first one in so many."""
    assert seen.item.reference_video is not None
    smaller = plan.config.reference_downscale_factor
    fewer = plan.config.reference_temporal_scale_factor
    job = _frames_job(seen, plan, "frames", seen.item.reference_video)._replace(
        height=seen.bucket.height // smaller,
        width=seen.bucket.width // smaller,
        every=fewer,
        beside=seen.duration,
    )
    factors = {
        "reference_spatial_scale_factor": str(smaller),
        "reference_temporal_scale_factor": str(fewer),
    }
    return job, {**plan.video.about, **_about_picture(seen, plan, job), **factors}


def _video_mask(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    assert seen.item.video_mask is not None
    job = _frames_job(seen, plan, "frame mask", seen.item.video_mask)
    return job._replace(grid=_grid(job, plan.video_scale)), _about_picture(seen, plan, job)


def _sound_job(seen: Seen, what: What, source: Path) -> Job:
    return Job(what, source, num_frames=seen.bucket.num_frames, fps=seen.fps)


def num_sound_latents(job: Job, plan: Plan) -> int:
    """Latents of the sound of the frames taken."""
    assert plan.audio_config is not None
    return plan.audio_config.scale.num_latents(job.num_frames, float(job.fps))


def _about_sound(job: Job, plan: Plan) -> Metadata:
    return {
        "num_time_steps": str(num_sound_latents(job, plan)),
        "duration": str(float(job.num_frames / job.fps)),
    }


def _encoded_sound(seen: Seen, plan: Plan, source: Path) -> tuple[Job, Metadata]:
    assert plan.audio is not None
    assert plan.audio_config is not None
    job = _sound_job(seen, "sound", source)
    bins = {"frequency_bins": str(plan.audio_config.latent_mel_bins)}
    return job, {**plan.audio.about, **_about_sound(job, plan), **bins}


def _sound(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    return _encoded_sound(seen, plan, seen.item.audio or seen.item.path)


def _reference_sound(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    assert seen.item.reference_audio is not None
    return _encoded_sound(seen, plan, seen.item.reference_audio)


def _audio_mask(seen: Seen, plan: Plan) -> tuple[Job, Metadata]:
    assert seen.item.audio_mask is not None
    job = _sound_job(seen, "sound mask", seen.item.audio_mask)
    return job, _about_sound(job, plan)


DESCRIBE: dict[Kind, Callable[[Seen, Plan], tuple[Job, Metadata]]] = {
    LATENTS: _latents,
    "audio_latents": _sound,
    "reference_latents": _reference,
    "reference_audio_latents": _reference_sound,
    "video_masks": _video_mask,
    "audio_masks": _audio_mask,
}
