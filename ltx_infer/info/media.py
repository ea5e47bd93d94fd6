"""What a clip, a sound or a picture is, and how it was made if we made it."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltx_infer.hub.place import shown_size
from ltx_infer.media.container import find_picture, open_input, read_comment
from ltx_infer.media.images import image_info, is_still
from ltx_infer.media.video import video_info
from ltx_infer.settings import TOOL, Settings, settings_in

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer


def about_media(path: Path) -> dict[str, Any]:
    """Size, frames, rate and sound, and the settings. Raises UserError for what is no media."""
    if is_still(path):
        info = image_info(path)
        found: dict[str, Any] = {"what": "picture", "size": f"{info.width}x{info.height}"}
    else:
        found = _moving(path)
    found["bytes"] = shown_size(path.stat().st_size)
    comment = read_comment(path)
    settings = settings_in(comment)
    if settings is None:
        return {**found, "comment": comment, "settings": f"none of {TOOL}"}
    return {**found, **about_settings(settings)}


def _moving(path: Path) -> dict[str, Any]:
    with open_input(path) as container:
        track = container.streams.audio[0] if container.streams.audio else None
        sound = None if track is None else _about_sound(track)
        picture = find_picture(container)
        seconds = (container.duration or 0) / 1_000_000
        num_frames = 0 if picture is None else _num_frames(container, picture)
    if picture is None:
        return {"what": "sound", "sound": sound, "seconds": seconds}
    info = video_info(path)
    return {
        "what": "clip",
        "size": f"{info.width}x{info.height}",
        "frames": num_frames,
        "frames a second": _rate(info.fps),
        "seconds": info.duration,
        "sound": sound or "none",
        "HDR": info.is_hdr or None,
    }


def _num_frames(container: "InputContainer", picture: "VideoStream") -> int:
    """What the header says, or as many as there are packets: a .webm's sound may last longer."""
    return picture.frames or sum(1 for packet in container.demux(picture) if packet.size)


def _rate(fps: Fraction) -> str:
    return str(fps) if fps.denominator == 1 else f"{fps} ({float(fps):.3f})"


def _about_sound(track: "AudioStream") -> str:
    return f"{track.codec_context.name}, {track.layout.name}, {track.rate} Hz"


def about_settings(settings: Settings) -> dict[str, Any]:
    """Who made a clip, what was asked for, and with which models."""
    return {
        "made by": f"{TOOL} {settings.version}",
        "settings": _flat(settings.asked),
        "models": _flat(settings.made_with),
        "files given": settings.files,
        "upscaled": {
            str(number): {name: value for name, value in step.items() if value}
            for number, step in enumerate(settings.upscaled, 1)
        },
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Values without those that say nothing, and with LoRAs one a line."""
    return {name: value for name, value in values.items() if value not in (None, [], {})}
