from fractions import Fraction
from pathlib import Path

import av
import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import build
from ltx_infer.pipeline.loras import Loras
from ltx_infer.pipeline.read import Given, read_media
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import read_lora
from ltx_models.weights import save_tensors
from tests.infer.media.odd_media import counting, tone, write_sound, write_video


def read(folder: Path, *, loras: Loras | None = None, **asked) -> Given:
    paths = {key: folder / value for key, value in asked.items() if key in ("video", "audio_file")}
    config = build({"prompt": "x", **asked, **paths})
    return read_media(config, loras or Loras(), version=(2, 3))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """20 frames of 40x70 at 25 a second, frame n of grey 10 n."""
    frames = np.repeat(counting(20)[:, :1, :1], 70, axis=1).repeat(40, axis=2)
    return write_video(tmp_path / "clip.mp4", frames, unit=Fraction(1, 25))


def test_a_clip_that_is_changed_gives_the_size_and_says_what_is_cut(tmp_path, clip):
    given = read(tmp_path, pipeline="retake", video="clip.mp4", start_time=0.2)
    assert given.size == (17, 64, 32, 25.0)
    assert given.notes == (
        f"{clip}: its first 17 of 20 frames are used",
        f"{clip}: 40x70 becomes 32x64",
    )
    assert given.media.region == (0.2, 17 / 25)


@pytest.mark.parametrize(
    ("asked", "region"),
    [({"extend_after": 8}, (17 / 25, 1.0)), ({"extend_before": 8}, (0.0, 8 / 25))],
)
def test_what_is_added_is_what_is_made(tmp_path, clip, asked, region):
    given = read(tmp_path, pipeline="extend", video="clip.mp4", **asked)
    assert given.size.num_frames == 25
    assert given.media.region == region
    assert len(given.media.source) == 25


def test_sound_is_brought_to_the_length_of_the_clip(tmp_path):
    write_sound(tmp_path / "tone.wav", np.stack([tone(0.5), tone(0.5)]))
    given = read(tmp_path, audio_file="tone.wav", num_frames=25)
    path = tmp_path / "tone.wav"
    assert given.notes == (f"{path}: 0.50 s, the clip is 1.04 s: silence follows",)
    assert given.media.sound.waveform.shape[1] == 50_000
    assert given.media.frozen == ("audio",)
    assert read(tmp_path, audio_file="tone.wav", audio_strength=0.5).media.frozen == ()
    short = read(tmp_path, audio_file="tone.wav", num_frames=9)
    assert short.notes == (f"{path}: cut to the clip's 0.38 s",)


def test_hdr_is_said(tmp_path):
    with av.open(str(tmp_path / "hdr.mp4"), "w") as container:
        stream = container.add_stream("libx264", 24, width=32, height=32)
        stream.codec_context.color_trc = 16  # PQ
        for pixels in counting(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.copy(), format="rgb24")))
        container.mux(stream.encode())
    given = read(tmp_path, pipeline="retake", video="hdr.mp4")
    path = tmp_path / "hdr.mp4"
    assert given.notes == (f"{path}: HDR, read without tone mapping, so it looks pale",)


def loras(folder: Path, *metadata: dict[str, str]) -> Loras:
    found = []
    for number, said in enumerate(metadata):
        path = folder / f"{number}.safetensors"
        tensors = {"a.lora_A.weight": mx.zeros((1, 8)), "a.lora_B.weight": mx.zeros((8, 1))}
        mx.save_safetensors(str(path), tensors, said)
        found.append((read_lora(path), Strength()))
    return Loras(tuple(found))


def test_references_are_smaller_as_the_lora_says(tmp_path, clip):
    half = loras(tmp_path, {"reference_downscale_factor": "2"}, {})
    asked = {"pipeline": "ic-lora", "video_conditioning": [[clip]], "num_frames": 17}
    (reference,) = read(tmp_path, **asked, height=128, width=256, loras=half).media.references
    assert (reference.space_factor, reference.time_factor) == (2, 1)
    with pytest.raises(UserError, match=r"of 1/2 the size; .* that are multiples of 128"):
        read(tmp_path, **asked, height=128, width=192, loras=half)
    third = loras(tmp_path, *({"reference_downscale_factor": n} for n in "23"))
    with pytest.raises(UserError, match=r"0\.safetensors of 1/2, 1\.safetensors of 1/3"):
        read(tmp_path, **asked, loras=third)


def test_frames_of_a_reference_that_do_not_fit_its_rate_are_said(tmp_path, clip):
    every_second = loras(tmp_path, {"reference_temporal_scale_factor": "2"})
    asked = {"pipeline": "ic-lora", "video_conditioning": [[clip]], "loras": every_second}
    assert read(tmp_path, **asked, num_frames=17).notes == ()
    (note,) = read(tmp_path, **asked, num_frames=9).notes
    assert note.endswith("the last of 9 are left out; a multiple of 16 plus 1 would fit")


def test_an_adapter_says_where_reference_sounds_lie(tmp_path):
    write_sound(tmp_path / "voice.wav", tone(1.0, rate=16000), rate=16000)
    asked = {"audio": True, "reference_audio": tmp_path / "voice.wav"}
    tensors = {"lora_A": mx.ones((2, 4)), "lora_B": mx.ones((4, 2))}
    name = "diffusion_model.transformer_blocks.0.audio_attn1.to_q"
    given = []
    for about in ({}, {"reference_audio_positions": "clip"}):
        path = tmp_path / f"lora{len(about)}.safetensors"
        save_tensors(path, {f"{name}.{k}.weight": v for k, v in tensors.items()}, about)
        given.append(read(tmp_path, loras=Loras(asked=((read_lora(path), Strength()),)), **asked))
    assert [each.media.reference_beside for each in given] == [False, True]
    assert given[1].notes == (
        "--reference-audio: at the clip's own times, as for lora1.safetensors",
    )
