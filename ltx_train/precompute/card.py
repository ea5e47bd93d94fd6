"""What is to be seen of one clip: its source beside what its latents decode to.

Letters: F frames, H and W height and width.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.media.write import Sound
from ltx_models.audio_vae import AudioDecoder, Vocoder
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.tiling import DEFAULT_TILING, stream_frames
from ltx_models.weights import TensorFile
from ltx_train.data.layout import LATENTS, MASK, Kind, sample_path
from ltx_train.reading.decode import Job, decode
from ltx_train.report.media import clip, fitted, strip, waveform
from ltx_train.report.page import Html, Part, note, number, tag

NUM_SHOWN = 5  # frames, spread over the clip
BOX = {"width": 232, "height": 150}  # of a frame, in pixels
SMALL = {"width": 72, "height": 48}
PLAYED = 121  # frames of a playing clip, five seconds

Rows = Iterator[tuple[str, Html]]  # what it is, and a picture of it


class Decoders(NamedTuple):
    """The networks; those for sound are None where there is nothing for them."""

    video: VideoDecoder
    sound: AudioDecoder | None
    vocoder: Vocoder | None


class Stored(NamedTuple):
    """A clip whose latents are stored, and the jobs that read again what they were made from."""

    name: str
    stem: Path
    jobs: Mapping[Kind, Job]
    remark: str = ""


class Card(NamedTuple):
    """What is seen of a clip, in full and as a row of a table."""

    name: str
    psnr: float  # of the decoded against the source, in dB; not a number without a source
    full: Html | None  # None where there is no room for it
    row: list[Part]


def make_card(stored: Stored, root: Path, decoders: Decoders) -> Card:
    """Decode one clip and read its source again. Raises WeightsError for a damaged file."""
    file = TensorFile(sample_path(root, LATENTS, stored.stem))
    decoded = decoded_frames(decoders.video, file)
    source, fault = read_again(stored.jobs[LATENTS])
    if source is not None and source.shape != decoded.shape:
        source, fault = None, "it is not what it was when it was encoded"
    psnr = math.nan if source is None else peak_ratio(source, decoded)
    bucket, fps = file.metadata["bucket"], float(file.metadata["fps"])
    heard = decoded_sound(root, stored, decoders)
    rows = [
        ("source", note("cannot be read: ", fault) if source is None else _strip(source)),
        ("decoded", _strip(decoded)),
        *_more_pictures(root, stored, decoders.video, like=decoded),
        *(
            []
            if len(decoded) == 1
            else [("playing", _playing(source, decoded, fps=fps, sound=heard))]
        ),
        *_waveforms(stored, heard),
    ]
    caption = caption_of(root, stored.stem)
    quality = "no source" if source is None else f"{number(psnr)} dB"
    seconds = f"{number(len(decoded) / fps)} s"
    chips = ["still"] if len(decoded) == 1 else [f"{number(fps, 5)} fps", seconds]
    full = tag(
        "article",
        tag("header", tag("h3", stored.name), _chips(quality, bucket, *chips)),
        caption,
        note(stored.remark) if stored.remark else None,
        tag("div", *(part for name, shown in rows for part in (tag("span", name), shown)),
            class_="strips"),
        class_="card",
        data_item=True,
    )  # fmt: skip
    middles = [frames[len(frames) // 2] for frames in (source, decoded) if frames is not None]
    small = strip([fitted(frame, **SMALL) for frame in middles], alt=stored.name)
    row: list[Part] = [small, stored.name, psnr, bucket, fps, caption]
    return Card(stored.name, psnr, full, row)


def decoded_frames(decoder: VideoDecoder, file: TensorFile) -> np.ndarray:
    """The frames (F, H, W, 3) in bytes of stored latents (C, F', H', W')."""
    latents = file.tensors("", [LATENTS])[LATENTS]
    chunks = stream_frames(decoder, latents[None], DEFAULT_TILING)
    return np.concatenate([_in_bytes(np.array(chunk.astype(mx.float32))) for chunk in chunks])


def read_again(job: Job) -> tuple[np.ndarray | None, str]:
    """What was encoded, by the function that read it then; or None, and why it cannot be read.

    Frames come as (F, H, W, 3) in bytes.
    """
    with TemporaryFile() as file:
        result = decode(job._replace(known_hash=""), file)
        if not result.shape:
            return None, result.fault
        file.flush()
        frames = np.memmap(file, np.float32, "r", shape=result.shape)
        return np.stack([_in_bytes((frame.transpose(1, 2, 0) + 1) / 2) for frame in frames]), ""


def peak_ratio(source: np.ndarray, decoded: np.ndarray) -> float:
    """PSNR in dB of frames in bytes; infinite where they are equal."""
    errors = [
        np.square(a.astype(np.float32) - b).mean(dtype=np.float64)
        for a, b in zip(source, decoded, strict=True)
    ]
    error = float(np.mean(errors))
    return 10 * math.log10(255**2 / error) if error else math.inf


def decoded_sound(root: Path, stored: Stored, decoders: Decoders) -> Sound | None:
    """The sound of the stored latents (C, T, M), if there are any."""
    if "audio_latents" not in stored.jobs:
        return None
    assert decoders.sound is not None
    assert decoders.vocoder is not None
    path = sample_path(root, "audio_latents", stored.stem)
    latents = TensorFile(path).tensors("", [LATENTS])[LATENTS]
    mel = decoders.sound(latents[None]).astype(mx.float32)
    return Sound(np.array(decoders.vocoder(mel)[0]), decoders.vocoder.sampling_rate)


def caption_of(root: Path, stem: Path) -> Html:
    """The caption as it was encoded, its trigger in bold."""
    path = sample_path(root, "conditions", stem)
    if not path.exists():
        return note("no caption was encoded")
    about = TensorFile(path).metadata
    caption, trigger = about["caption"], about.get("trigger", "")
    if trigger and caption.startswith(trigger):
        return tag("blockquote", tag("b", trigger), caption.removeprefix(trigger))
    return tag("blockquote", caption)


def _in_bytes(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as bytes."""
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _chips(first: str, *others: str) -> Html:
    spans = (tag("span", said) for said in others)
    return tag("div", tag("span", first, class_="main"), *spans, class_="chips")


def _strip(frames: np.ndarray) -> Html:
    """Some of the frames, the first and the last among them."""
    places = np.linspace(0, len(frames) - 1, min(NUM_SHOWN, len(frames))).round().astype(int)
    return strip([fitted(frames[place], **BOX) for place in places], alt=f"{len(places)} frames")


def _playing(
    source: np.ndarray | None, decoded: np.ndarray, *, fps: float, sound: Sound | None
) -> Html:
    """Source and decoded beside each other, with the decoded sound."""
    sides = [
        np.stack([fitted(frame, **BOX) for frame in frames[:PLAYED]])
        for frames in (source, decoded)
        if frames is not None
    ]
    return clip(np.concatenate(sides, axis=2), fps=fps, sound=sound)


def _more_pictures(root: Path, stored: Stored, decoder: VideoDecoder, *, like: np.ndarray) -> Rows:
    """The reference and the mask of a clip, where it has them."""
    if "reference_latents" in stored.jobs:
        source, fault = read_again(stored.jobs["reference_latents"])
        yield "reference", note("cannot be read: ", fault) if source is None else _strip(source)
        path = sample_path(root, "reference_latents", stored.stem)
        yield "decoded", _strip(decoded_frames(decoder, TensorFile(path)))
    if "video_masks" in stored.jobs:
        file = TensorFile(sample_path(root, "video_masks", stored.stem))
        mask = np.array(file.tensors("", [MASK])[MASK].astype(mx.float32))
        down, across = like.shape[1] // mask.shape[1], like.shape[2] // mask.shape[2]
        grey = _in_bytes(mask).repeat(down, axis=1).repeat(across, axis=2)
        yield "mask", _strip(np.repeat(grey[..., None], 3, axis=3))


def _waveforms(stored: Stored, heard: Sound | None) -> Rows:
    """The sound of the source, as long as what was encoded, and of its latents."""
    job = stored.jobs.get("audio_latents")
    if job is None:
        return
    with TemporaryFile() as file:
        result = decode(job._replace(known_hash=""), file)
        if result.shape:
            file.flush()
            samples = np.memmap(file, np.float32, "r", shape=result.shape)
            yield "sound", waveform(Sound(np.array(samples), result.rate), name=stored.name)
        else:
            yield "sound", note("cannot be read: ", result.fault)
    if heard is not None:
        yield "decoded", waveform(heard, name=f"{stored.name}, decoded")
