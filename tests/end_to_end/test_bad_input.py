"""Input that cannot be used: exit code 2, a few lines that name it and what would fit, no file."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer.cli import main
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.saved import Saved, save
from ltx_models.weights import TensorFile
from tests.infer.media.odd_media import tone, write_sound, write_video

SIZE = ("-H", "64", "-W", "64", "-n", "9")
RETAKE, EXTEND = ("--pipeline", "retake"), ("--pipeline", "extend")
DEV, HQ = ("--pipeline", "dev"), ("--pipeline", "dev-two-stage-hq")
LORAS_OF_TWO_SIZES = ("--lora", "half-size.safetensors", "--lora", "third.safetensors")
T2A, IC = ("--pipeline", "t2a"), ("--pipeline", "ic-lora")

FILES = [
    # Pictures
    (("-i", "half.png"), "half.png: the picture is damaged"),
    (("-i", "text.png"), "text.png: not a picture that can be read"),
    (("-i", "clip.mp4"), "clip.mp4: not a picture that can be read"),
    (("-i", "gone.png"), "gone.png: there is no such file"),
    (("-i", "two"), "two: is a folder"),
    # Videos
    ((*RETAKE, "--video", "text.mp4"), "text.mp4: not a video or sound that can be read"),
    ((*RETAKE, "--video", "half.mp4"), "half.mp4: not a video or sound that can be read"),
    ((*RETAKE, "--video", "empty.mp4"), "empty.mp4: the file is empty"),
    ((*RETAKE, "--video", "sound.mp4"), "sound.mp4: has no picture, only sound"),
    ((*RETAKE, "--video", "red.png"), "red.png: is a picture, not a video"),
    ((*RETAKE, "--video", "gone.mp4"), "gone.mp4: there is no such file"),
    ((*EXTEND, "--extend-after", "8", "--video", "two"), "two: is a folder"),
    # Sounds
    (("--audio-file", "empty.wav"), "empty.wav: the file is empty"),
    (("--audio-file", "nothing.wav"), "nothing.wav: has no sound"),
    (("--audio-file", "clip.mp4"), "clip.mp4: has no sound"),
    (("--audio-file", "text.mp4"), "text.mp4: not a video or sound that can be read"),
    (("--reference-audio", "gone.wav"), "gone.wav: there is no such file"),
    (
        ("--audio-file", "tone.wav", "--audio-start-time", "5"),
        "tone.wav: has no sound from 5.0 s on",
    ),
    # LoRAs
    (("--lora", "gone.safetensors"), "--lora gone.safetensors: no such file or folder"),
    (("--lora", "two"), "--lora two: name one of its files:\na.safetensors, b.safetensors"),
    (("--lora", "text.png"), "text.png: not a complete safetensors file"),
    (("--lora", "wide.safetensors"), "wide.safetensors was made for a model of other sizes:"),
    (("--lora", "other.safetensors"), "24 of its 24 layers are not in this model"),
    (("--lora", "single.safetensors"), "to_k: no lora_A beside"),
    (("--lora", "sound.safetensors"), "changes only the sound's layers, and this run makes no"),
    (
        (*HQ, "--distilled-lora", "gone.safetensors"),
        "--distilled-lora gone.safetensors: no such file",
    ),
    # Models
    (("--spatial-upscaler", "x3"), "no spatial upscaler x3 beside the checkpoint, only"),
    (("--spatial-upscaler", "gone.safetensors"), "gone.safetensors: no such file, neither here"),
    (("--spatial-upscaler", "temporal.safetensors"), "it adds frames; a spatial upscaler is"),
    (("--spatial-upscaler", "lora.safetensors"), "not a latent upsampler"),
    (("--text-encoder-repo", "two"), "two: no config.json in this folder"),
    # Places
    (("-o", "gone/out.mp4"), "gone/out.mp4: there is no folder gone"),
    (
        ("-o", "out.avi"),
        "out.avi: the name of a clip ends in .mp4, .mov, .webm, .gif or, of one frame, .png",
    ),
    (
        ("-o", "out.wav"),
        "out.wav: the name of a clip ends in .mp4, .mov, .webm, .gif or, of one frame, .png",
    ),
    ((*T2A, "-o", "out.mp4"), "out.mp4: the name of a sound ends in .wav"),
    (("-o", "folder.mp4"), "folder.mp4: is a folder"),
    (("-o", "taken.mp4"), "taken.latents.safetensors: is a folder"),
    (("-o", "/dev/fd/out.mp4"), "/dev/fd/out.mp4: no file can be written there"),
    (("-o", f"{'x' * 250}.mp4"), "no file can be written there: file name too long"),
]
VALUES = [
    (("-i", "red.png", "9"), "--image red.png 9: the clip has frames 0 to 8"),
    (("-i", "red.png", "-1"), "--image FRAME '-1': Input should be greater than or equal to 0"),
    (("-i", "red.png", "0", "3"), "--image STRENGTH '3': Input should be less than or equal to 1"),
    (("-i", "red.png", "0", "-0.5"), "--image STRENGTH '-0.5'"),
    (("-i", "red.png", "0", "1", "60"), "--image CRF '60': Input should be less than or equal"),
    (("-i", "red.png", "0", "1", "33", "7"), "takes PATH FRAME STRENGTH CRF at most"),
    (("-i", "red.png", "first"), "--image FRAME 'first': Input should be a valid integer"),
    (("--audio-file", "tone.wav", "--audio-start-time", "inf"), "should be a finite number"),
    (("--audio-file", "tone.wav", "--audio-strength", "2"), "--audio-strength 2.0: Input should"),
    (("--lora", "lora.safetensors", "nan"), "--lora STRENGTH 'nan': Input should be a finite"),
    (("--lora", "lora.safetensors", "strong"), "--lora STRENGTH 'strong': Input should be a"),
    (("--steps", "0"), "--steps 0: Input should be greater than 0"),
    (("--steps", "9"), "--steps 9: distilled has 8 at most"),
    ((*RETAKE, "--video", "clip.mp4", "--steps", "9"), "distilled weights have 8 at most"),
    (("--seed", "many"), "argument --seed/-s: invalid int value: 'many'"),
    (("--fps", "0"), "--fps 0.0: Input should be greater than or equal to 1"),
    (("-q", "5"), "--quantize 5: Input should be 4, 6 or 8"),
    (("--pipeline", "dve"), "--pipeline 'dve': Input should be 'distilled', 'dev', "),
    (("--conditioning-mode", "both", "-i", "red.png"), "'auto', 'replace' or 'guide'"),
    (("--hieght", "64"), "did you mean --height?"),
    (("--video",), "argument --video: expected one argument"),
    (
        (*DEV, "--stg-scale", "1", "--stg-blocks", "99"),
        "STG block 99: this model has blocks 0 to 5",
    ),
    (("--audio", "-n", "1", "--fps", "120", "--one-stage"), "1 frames at 120 a second are too"),
    (("--video", "clip.mp4", "--pad", "1,2,3"), "takes left,top,right,bottom in pixels, as 0,64"),
    (("--video", "clip.mp4", "--pad", "0,0,0,0"), "--pad '0,0,0,0': takes left,top,right,bottom"),
    (("--video", "clip.mp4", "--pad", "32,0,32,0"), "leaves no room for the video in a clip of 64"),
    (
        ("--video", "clip.mp4", "--mask", "short.mp4"),
        "short.mp4: the mask has 5 frames, the clip 9",
    ),
    (("--video", "short.mp4", "--mask", "red.png"), "make it shorter: --num-frames 1"),
    (
        (*IC, "--video-conditioning", "short.mp4"),
        "short.mp4: 5 frames at 24 a second, the clip has",
    ),
    ((*IC, "--video-conditioning", "clip.mp4", "8"), "a reference starts with the clip"),
    (
        (*IC, "--video-conditioning", "clip.mp4", "--lora", "half-size.safetensors"),
        "references of 1/2 the size; --height and --width would fit that are multiples of 128",
    ),
    (("--prefix-video", "clip.mp4", "8"), "a multiple of 8 plus 1 that is less than the clip's 9"),
    (("-n", "33", "--suffix-video", "clip.mp4", "25"), "has 17 frames, 25 were asked for"),
    (
        (*EXTEND, "--video", "clip.mp4", "--extend-after", "9"),
        "frames come in eights; 16 would fit",
    ),
    (
        (*RETAKE, "--video", "clip.mp4", "--start-time", "0.3", "--end-time", "0.2"),
        "--start-time 0.3: nothing lies between it and 0.2 s",
    ),
    ((*RETAKE, "--video", "clip.mp4", "--start-time", "9"), "nothing lies between it and 0.708"),
    ((*RETAKE, "--video", "clip.mp4", "--keep", "audio"), "clip.mp4 has no sound to keep"),
    ((*RETAKE, "--video", "clip.mp4", "--keep", "video"), "clip.mp4 has no sound to make anew"),
]
TOGETHER = [
    (("--cfg-scale", "4"), "--cfg-scale: distilled has no guidance; --pipeline dev has"),
    (("--max-batch-size", "2"), "--max-batch-size: distilled has one pass a step"),
    ((*RETAKE, "--video", "clip.mp4", "--cfg-scale", "4"), "distilled weights have no guidance"),
    ((*HQ, "--stg-scale", "1"), "--stg-scale: dev-two-stage-hq has no spatio-temporal guidance"),
    ((*DEV, "--stg-blocks", "1"), "--stg-blocks: for an --stg-scale above 0"),
    ((*DEV, "--modality-scale", "3"), "--modality-scale needs sound: --audio"),
    ((*DEV, "--audio-cfg-scale", "3"), "--audio-cfg-scale: for sound, which --audio makes"),
    (
        (*DEV, "--audio-file", "tone.wav", "--audio-cfg-scale", "3"),
        "--audio-cfg-scale: the sound is given; for an --audio-strength below 1",
    ),
    ((*T2A, "-i", "red.png"), "--image, --height, --width: t2a makes sound only"),
    ((*T2A, "--cfg-scale", "4"), "--cfg-scale: t2a has no picture"),
    (
        ("--pipeline", "keyframe", "--conditioning-mode", "guide", "-i", "red.png"),
        "--conditioning-mode: keyframe takes every image as a guide",
    ),
    (("--image-strength", "0.5"), "--image-strength: for an --image FILE"),
    (
        ("--conditioning-mode", "replace", "-i", "red.png", "-i", "red.png"),
        "--conditioning-mode replace: two images fall on one latent frame",
    ),
    (("--video-conditioning", "clip.mp4"), "distilled has no references; --pipeline ic-lora has"),
    (("--conditioning-attention-mask", "red.png", "1"), "is for a --video-conditioning FILE"),
    (("--skip-stage-2",), "--skip-stage-2: distilled has none to skip; --one-stage samples"),
    ((*IC, "--skip-stage-2", "--one-stage"), "--skip-stage-2 and --one-stage: one of them"),
    (("--one-stage", "--spatial-upscaler", "x2-1.0"), "there is no second stage to upscale for"),
    (("--mask", "red.png"), "--mask and --pad are for a --video FILE"),
    (
        ("--video", "clip.mp4", "--mask", "red.png", "--pad", "0,0,0,8"),
        "--mask and --pad: one of them",
    ),
    (("--video", "clip.mp4"), "--video: distilled needs --mask or --pad with it"),
    (RETAKE, "--pipeline retake needs --video FILE"),
    ((*RETAKE, "--video", "clip.mp4", "-n", "9"), "--num-frames: retake goes by --video"),
    ((*RETAKE, "--video", "clip.mp4", "--extend-after", "8"), "--extend-after: for --pipeline ext"),
    (("--start-time", "1"), "--start-time: distilled changes no clip; --pipeline retake and"),
    ((*EXTEND, "--video", "clip.mp4"), "--extend-after N or --extend-before N, one of them"),
    (
        (*EXTEND, "--video", "clip.mp4", "--extend-after", "8", "--keep", "audio"),
        "--keep: for --pipeline retake",
    ),
    (("--audio", "--audio-file", "tone.wav"), "--audio makes sound, --audio-file gives it: one"),
    (("--audio-start-time", "1"), "--audio-start-time: for an --audio-file FILE"),
    (
        ("--audio-file", "tone.wav", "--reference-audio", "tone.wav"),
        "--reference-audio is for sound that is made, --audio-file gives it",
    ),
    (("--lora-mode", "attach"), "--lora-mode: for a --lora FILE"),
    (("--lora-strength", "0.5"), "--lora-strength: for a --lora FILE"),
    (
        ("--lora-strength-stage-1", "0.5"),
        "--lora-strength-stage-1: for --pipeline dev-two-stage-hq",
    ),
    ((*HQ, "--lora-strength", "0.5"), "dev-two-stage-hq takes --lora-strength-stage-1, --lora-"),
    ((*HQ, "--one-stage", "--lora-strength-stage-2", "1"), "--one-stage leaves that stage out"),
    ((*DEV, "--distilled-lora", "lora.safetensors"), "no stage of this run refines with it"),
    (
        (*IC, *LORAS_OF_TWO_SIZES, "--video-conditioning", "clip.mp4"),
        "these look at references of different sizes: half-size.safetensors of 1/2, third.",
    ),
]
LATENTS = [
    (("clip.mp4",), "--decode-only clip.mp4: no latents of ours, or damaged; it takes"),
    (("lora.safetensors",), "--decode-only lora.safetensors: no latents of ours"),
    (("gone.safetensors",), "--decode-only gone.safetensors: there is no such file"),
    (("good.latents.safetensors", "-n", "9"), "does not go with --num-frames: the latents are"),
    (("good.latents.safetensors", "a boat"), "--decode-only does not go with a prompt"),
    (("good.latents.safetensors", "-o", "a.wav"), "a.wav: the name of a clip ends in .mp4"),
    (("wide.latents.safetensors",), "its picture is (1, 128, 2, 2, 2), this model's has 16 chan"),
    (("good.latents.safetensors", "--model", "gone"), "--model gone: no such file or folder"),
]


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are damaged, of the wrong kind or size, and some that are right."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("text.png", "text.mp4"):
        (folder / name).write_text("not what the name says")
    for name in ("empty.mp4", "empty.wav"):
        (folder / name).touch()
    noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise[0]).save(folder / "red.png")
    write_video(folder / "clip.mp4", noise)
    write_video(folder / "short.mp4", noise[:5])
    for whole, part in (("red.png", "half.png"), ("clip.mp4", "half.mp4")):
        data = (folder / whole).read_bytes()
        (folder / part).write_bytes(data[: len(data) // 2])
    write_sound(folder / "tone.wav", np.stack([tone(1), tone(1)]))
    write_sound(folder / "sound.mp4", np.stack([tone(1), tone(1)]), codec="aac")
    header = (folder / "tone.wav").read_bytes()
    (folder / "nothing.wav").write_bytes(header[: header.index(b"data") + 4] + bytes(4))
    (folder / "folder.mp4").mkdir()
    (folder / "taken.latents.safetensors").mkdir()
    (folder / "two").mkdir()
    _write_loras(folder, tiny)
    for name, channels in (("good", 16), ("wide", 128)):
        video = mx.random.normal((1, channels, 2, 2, 2))
        saved = Saved(ClipLatents(video, None), 24.0, "tiny")
        save(folder / f"{name}.latents.safetensors", saved)
    return folder


def _write_loras(folder: Path, tiny: Path) -> None:
    """The stand-in's distilled LoRA, as it is and with its keys, sizes or metadata changed."""
    file = TensorFile(next(tiny.glob("*lora*.safetensors")))
    lora = {k: v for k, v in file.tensors("", file.infos).items() if ".attn1." in k}
    wide = {key: mx.zeros([side + 2 for side in value.shape]) for key, value in lora.items()}
    other = {key.replace("transformer_", "single_"): value for key, value in lora.items()}
    single = {key: value for key, value in lora.items() if "0.attn1.to_k.lora_A" not in key}
    sound = {key.replace("attn1", "audio_attn1"): value for key, value in lora.items()}
    half = {"reference_downscale_factor": "2"}
    for name, tensors, metadata in (
        ("lora", lora, {}),
        ("wide", wide, {}),
        ("other", other, {}),
        ("single", single, {}),
        ("sound", sound, {}),
        ("half-size", lora, half),
        ("third", lora, {"reference_downscale_factor": "3"}),
        ("two/a", lora, {}),
        ("two/b", lora, {}),
    ):
        mx.save_safetensors(str(folder / f"{name}.safetensors"), tensors, metadata)
    upscaler = next(tiny.glob("*temporal*.safetensors"))
    (folder / "temporal.safetensors").symlink_to(upscaler)


@pytest.fixture
def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run the command among the files; what it says when it ends with exit code 2."""
    monkeypatch.chdir(folder)

    def run(*words: str) -> str:
        before = sorted(folder.rglob("*"))
        with pytest.raises(SystemExit) as end:
            main(list(words))
        out, said = capsys.readouterr()
        assert end.value.code == 2
        assert said.startswith("ltx-generate: ")
        assert len(said.splitlines()) <= 4
        assert "Traceback" not in said
        assert out == ""
        assert sorted(folder.rglob("*")) == before
        return said

    return run


@pytest.mark.parametrize(("words", "part"), [*FILES, *VALUES, *TOGETHER])
def test_bad_input(refused: Callable[..., str], words, part):
    size = () if {"retake", "extend"} & set(words) else SIZE
    assert part in refused("--model", "tiny", "-p", "a boat", *size, *words)


@pytest.mark.parametrize(("words", "part"), LATENTS)
def test_bad_latents(refused: Callable[..., str], words, part):
    said = refused("--decode-only", *words)
    assert part in said
    assert len(said.splitlines()) == 1


def test_all_faults_at_once(refused: Callable[..., str]):
    said = refused("--model", "tiny", "-p", "x", *SIZE, "--cfg-scale", "4", "--start-time", "1")
    assert "--cfg-scale: " in said
    assert "--start-time: " in said
