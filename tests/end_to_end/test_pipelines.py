"""Every pipeline with everything it can be given, on the stand-in, by the command's own main."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ltx_infer.cli import main
from ltx_infer.media.sound import read_sound
from tests.end_to_end.conftest import read_clip

SIZE = ("-H", "64", "-W", "128", "-n", "9")
GUIDED = ("--steps", "2")
COMMANDS = {
    "distilled": (),
    "dev": GUIDED,
    "dev-two-stage": GUIDED,
    "dev-two-stage-hq": GUIDED,
    "keyframe": GUIDED,
    "ic-lora": (),
}
GIVEN = {
    "text": (),
    "image": ("--image", "picture.png"),
    "two images": ("--image", "picture.png", "--image", "other.png", "8", "0.8"),
    "sound file": ("--audio-file", "tone.wav"),
    "image + sound": ("--image", "picture.png", "--audio-file", "tone.wav"),
    "generated sound": ("--audio",),
    "LoRA": ("--lora", "adapter.safetensors", "0.5"),
    "prefix and suffix": ("--prefix-video", "source.mp4", "1", "--suffix-video", "source.mp4", "1"),
    "inpainting": ("--video", "source.mp4", "--mask", "mask.png"),
    "outpainting": ("--video", "source.mp4", "--pad", "32,0,0,16"),
}
REMADE = {
    "retake": ("--pipeline", "retake", "--video", "source.mp4", "--start-time", "0.1"),
    "retake, sound kept": (
        "--pipeline",
        "retake",
        "--video",
        "source.mp4",
        "--start-time",
        "0.1",
        "--keep",
        "audio",
    ),
    "extend after": ("--pipeline", "extend", "--video", "source.mp4", "--extend-after", "8"),
    "extend before": ("--pipeline", "extend", "--video", "source.mp4", "--extend-before", "8"),
}


def combinations() -> Iterator:
    """All; slow are those of which pipeline and input are each run with others."""
    for pipeline, given in product(COMMANDS, GIVEN):
        often = pipeline == "distilled" or given == "image + sound"
        often = often or (pipeline, given) == ("dev", "text")
        yield pytest.param(pipeline, given, marks=() if often else pytest.mark.slow)


@pytest.fixture(scope="module")
def inputs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, another, a mask, a tone, a clip with sound and an adapter."""
    folder = tmp_path_factory.mktemp("inputs")
    rows, columns = np.mgrid[:80, :120]
    Image.fromarray(np.stack([rows * 3, columns * 2, rows + columns], -1).astype(np.uint8)).save(
        folder / "picture.png"
    )
    Image.fromarray(np.stack([columns * 2, rows, rows * 3], -1).astype(np.uint8)).save(
        folder / "other.png"
    )
    Image.fromarray(((columns > 60) * 255).astype(np.uint8)).save(folder / "mask.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["--model", "tiny", "--audio", *SIZE, "-o", "source.mp4", "a boat"])
    tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32) / 4
    from ltx_infer.media.write import write_wav  # noqa: PLC0415

    write_wav(folder / "tone.wav", np.stack([tone, tone]), rate=48000)
    lora = next(tiny.glob("*lora*.safetensors"))
    (folder / "adapter.safetensors").write_bytes(lora.read_bytes())
    return folder


@pytest.fixture
def run(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command among the inputs; the clip that it writes."""
    monkeypatch.chdir(inputs)

    def make(*words: str):
        output = tmp_path / "out.mp4"
        main(["--model", "tiny", "-o", str(output), "-p", "a lighthouse", *words])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4"]
        return read_clip(output)

    return make


@pytest.mark.parametrize(("pipeline", "given"), list(combinations()))
def test_each_pipeline_takes_each_input(run, pipeline, given):
    words = (*SIZE, "--pipeline", pipeline, *COMMANDS[pipeline], *GIVEN[given])
    frames, sound, rate = run(*words)
    assert frames.shape == (9, 64, 128, 3)
    if "sound" not in given:
        assert sound is None
        return
    assert rate == 48000
    assert abs(sound.shape[1] - 9 / 24 * rate) <= 1024
    assert sound.std() > 0.001


@pytest.mark.parametrize("words", REMADE.values(), ids=REMADE)
def test_a_clip_is_remade(run, inputs, words):
    source = read_clip(inputs / "source.mp4")
    frames, sound, _ = run(*words)
    longer = 8 if "extend" in words else 0
    assert frames.shape == (9 + longer, 64, 128, 3)
    assert sound is not None
    assert np.abs(frames[-1].astype(int) - source.frames[-1]).mean() > 1 or longer


def test_sound_only(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(inputs)
    output = tmp_path / "out.wav"
    main(["--model", "tiny", "--pipeline", "t2a", *GUIDED, "-n", "33", "-o", str(output), "rain"])
    waveform, rate = read_sound(output)
    assert rate == 48000
    assert abs(waveform.shape[1] / rate - 33 / 24) < 0.1
    with av.open(str(output)) as file:
        assert file.streams.audio[0].codec_context.name == "pcm_s16le"


def test_reference_video_and_its_attention(run):
    words = (*SIZE, "--pipeline", "ic-lora", "--video-conditioning", "source.mp4", "0", "0.9")
    plain = run(*words).frames
    masked = run(*words, "--conditioning-attention-mask", "mask.png", "0.5").frames
    assert (plain != masked).any()
    assert (run(*SIZE, "--pipeline", "ic-lora").frames != plain).any()
    assert run(*words, "--skip-stage-2").frames.shape == (9, 32, 64, 3)


@pytest.mark.parametrize("bits", ["4", pytest.param("8", marks=pytest.mark.slow)])
def test_quantised_at_load(run, bits):
    plain, quantised = run(*SIZE).frames, run(*SIZE, "-q", bits).frames
    difference = np.abs(plain.astype(int) - quantised).mean()
    assert 0 < difference < 40


def test_guidance_passes_at_once_or_one_by_one(run):
    words = (*SIZE, "--pipeline", "dev", *GUIDED, "--stg-scale", "1", "--audio")
    one = run(*words, "--modality-scale", "3").frames
    all_at_once = run(*words, "--modality-scale", "3", "--max-batch-size", "4").frames
    assert np.abs(one.astype(int) - all_at_once).max() <= 3
