"""A folder as people have them: clips, phone videos, stills and what else lies among them."""

import unicodedata
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.infer.media.odd_media import tone, write_video

FRAMES = 11
HUGE = (5000, 2400)  # columns and rows
TIMES = (0, 20, 90, 110, 180, 200, 300, 310, 330, 400, 480)  # of a variable rate, in milliseconds


def moving(seed: int, *, frames: int = FRAMES, height: int = 40, width: int = 70) -> np.ndarray:
    """Coarse noise (F, H, W, 3) that wanders to the right."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (1, -(-height // 8), -(-width // 10), 3), np.uint8)
    picture = picture.repeat(8, 1).repeat(10, 2)[:, :height, :width]
    return np.concatenate([np.roll(picture, 2 * i, axis=2) for i in range(frames)])


def write_with_sound(
    path: Path, frames: np.ndarray, samples: np.ndarray, *, layout: str, rate: int = 48000
) -> Path:
    """Frames (F, H, W, 3) at 24 a second, and samples (channels, N), float in [-1, 1], as AAC."""
    with av.open(str(path), "w") as container:
        height, width = frames.shape[1:3]
        video = container.add_stream("libx264", 24, width=width, height=height)
        video.options = {"crf": "1", "preset": "ultrafast"}
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate, layout=layout)
        for pixels in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            container.mux(video.encode(picture.reformat(format="yuv420p")))
        packed = samples.astype(np.float32).T.reshape(1, -1)
        sound = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


def write_folder(folder: Path) -> None:
    """Every kind of file that may lie in a folder of clips, each clip with a caption beside it."""
    for inner in ("", "a", "b", ".hidden"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    write_video(folder / "plain.mp4", moving(1))
    write_video(
        folder / "uneven.webm",
        moving(2),
        times=TIMES,
        unit=Fraction(1, 1000),
        codec="libvpx-vp9",
    )
    write_video(folder / "phone.mov", moving(3), turn=(90, False, False))
    channels = np.stack([tone(0.5, hertz=200 * (i + 1)) for i in range(6)])
    write_with_sound(folder / "surround.mp4", moving(4), channels, layout="5.1")
    write_with_sound(folder / "silent.mp4", moving(5), np.zeros((2, 24000)), layout="stereo")
    write_video(folder / "short.mp4", moving(6, frames=3))
    whole = write_video(folder / "torn.mp4", moving(7)).read_bytes()
    (folder / "torn.mp4").write_bytes(whole[: len(whole) // 3])
    write_scrambled(folder / "scrambled.mp4")
    (folder / "text.mp4").write_text("a text, whatever its name says")
    for inner in ("a", "b"):
        write_video(folder / inner / "same.mkv", moving(len(inner) + ord(inner)))
    write_video(folder / unicodedata.normalize("NFD", "größe été.mp4"), moving(8))
    write_video(folder / "日本 の海.mp4", moving(9))
    frames = [Image.fromarray(frame) for frame in moving(10)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(folder / "rests.gif")
    see_through = np.concatenate([moving(11)[0], np.full((40, 70, 1), 128, np.uint8)], axis=2)
    Image.fromarray(see_through).save(folder / "alpha.png")
    Image.fromarray(moving(12)[0]).resize(HUGE, Image.Resampling.NEAREST).save(
        folder / "huge.png", compress_level=1
    )
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        write_caption(path)
    write_video(folder / "mute.mp4", moving(13))  # without a caption
    write_video(folder / "plain.mov", moving(14))  # beside plain.mp4
    write_video(folder / ".hidden" / "x.mp4", moving(15))
    (folder / "lonely.txt").write_text("a caption without a clip")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4")
    (folder / "list.csv").write_text("video,caption\n")


def write_scrambled(path: Path) -> None:
    """A video whose header is whole and whose pictures are not."""
    whole = bytearray(write_video(path, moving(16)).read_bytes())
    start = whole.index(b"mdat") + 4
    stop = whole.index(b"moov") - 4
    whole[start:stop] = bytes(stop - start)
    path.write_bytes(whole)


def write_caption(path: Path) -> None:
    """The caption beside a clip; for its name's accents in the other form."""
    name = unicodedata.normalize("NFC", path.stem)
    path.with_name(f"{name}.txt").write_text(f"a clip of {name}\n", encoding="utf-8")
