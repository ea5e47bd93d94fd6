"""Several clips of one command, with one load of each network."""

import gc
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_infer import Pipeline
from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.generate import generate_each
from ltx_infer.pipeline.sanity import SanityError
from ltx_infer.pipeline.saved import load
from ltx_infer.sampling.state import seeded_noise
from ltx_infer.settings import read_settings
from tests.end_to_end.clips.conftest import same

SMALL = ("-H", "64", "-W", "64", "-n", "9", "--one-stage")
ASKED = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9, "prompt": "a boat"}


def quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.mark.slow
def test_many_clips_are_those_that_are_made_one_by_one(folder, capsys):
    """Every network is loaded once for all of them."""
    Path("prompts.txt").write_text("a boat\n\n# no clip\na train\n")
    words = ["--model", "tiny", "-H", "64", "-W", "64", "-n", "9"]
    main([*words, "--prompts-file", "prompts.txt", "--seed", "43", "-o", "many.mp4"])
    made = ["many-1.mp4", "many-4.mp4"]
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == made
    assert sum(line.startswith("text: ") for line in said.err.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([*made, "prompts.txt"])
    main([*words, "a train", "--seed", "43", "-o", "one.mp4"])
    assert same(Path("one.mp4"), Path(made[1]))
    assert not same(Path("one.mp4"), Path(made[0]))
    said = [read_settings(path).asked for path in (Path("one.mp4"), Path(made[1]))]
    assert said[0] == said[1]


def three(folder: Path):
    return [
        build({**ASKED, "seed": seed, "output_path": folder / f"{seed}.mp4"}) for seed in (1, 2, 3)
    ]


def nothing(shape: tuple[int, ...]) -> mx.array:
    return mx.full(shape, mx.nan)


def test_a_clip_that_fails_does_not_lose_the_others(folder):
    noises = [seeded_noise(1), nothing, seeded_noise(3)]
    made = [each.made for each in generate_each(three(folder), report=quiet, noises=noises)]
    assert isinstance(made[1], SanityError)
    assert str(made[1]).startswith("stage 1, 32x32, clip 2 of 3, step 1, video: ")
    assert sorted(path.name for path in folder.iterdir()) == ["1.mp4", "3.mp4"]


def test_the_command_says_which_clips_are_missing(folder, capsys, monkeypatch):
    """All of them, here: the stand-in with a LoRA that nothing can tame."""
    parts = {"lora_A.weight": mx.ones((1, 64)), "lora_B.weight": mx.full((16, 1), 1e4)}
    mx.save_safetensors(
        "wild.safetensors", {f"diffusion_model.proj_out.{k}": v for k, v in parts.items()}
    )
    with pytest.raises(SystemExit) as end:
        main(["--model", "tiny", *SMALL, "a boat", "--count", "2", "--lora", "wild.safetensors"])
    assert end.value.code == 1
    lines = [li for li in capsys.readouterr().err.splitlines() if li.startswith("ltx-generate: ")]
    assert lines[0].startswith("ltx-generate: output-42.mp4: sampling, 64x64, clip 1 of 2, step 1")
    assert lines[-1] == "ltx-generate: 2 of 2 clips are missing"


@pytest.mark.parametrize(
    ("stage", "what", "kept"),
    [
        ("stage 2, 64x64, clip 2 of 3", "the last good latents", ["1", "2", "3"]),
        pytest.param("decode, clip 2 of 3", "the latents", ["2", "3"], marks=pytest.mark.slow),
    ],
)
def test_clips_that_are_stopped_keep_their_latents(folder, stage, what, kept):
    def stop(at: str, done: int, total: int) -> None:
        if at == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as end:
        list(generate_each(three(folder), report=stop))
    left = sorted(path.name for path in folder.glob("*.safetensors"))
    assert left == [f"{name}.latents.safetensors" for name in kept]
    (note,) = end.value.__notes__
    assert note.startswith(f"To decode {what}: ltx-generate --decode-only ")
    others = "2 more clips" if len(kept) == 3 else "another clip"
    assert note.endswith(f"; and so those of {others}")
    rows = [load(path).latents.video.shape[3] for path in sorted(folder.glob("*.safetensors"))]
    assert rows == ([2, 1, 1] if len(kept) == 3 else [2, 2])  # whole, and of the first stage


@pytest.mark.slow
def test_the_same_from_python(folder):
    pipeline = Pipeline(**{k: v for k, v in ASKED.items() if k != "prompt"}, one_stage=True)
    paths = pipeline.write_each("out.mp4", ["a boat", "a train"], count=2)
    assert [path.name for path in paths] == [f"out-{n}-{s}.mp4" for n in (1, 2) for s in (42, 43)]
    again = Pipeline.from_clip(paths[3])
    assert again().frames.shape == (9, 64, 64, 3)
    assert again.write("b.mp4").read_bytes() == paths[3].read_bytes()


def test_of_many_clips_no_network_waits_for_the_next(folder):
    """When a stage begins for the first clip, and when a clip is decoded, there are latents."""
    gc.collect()  # what tests before this one left
    before = mx.get_active_memory()
    at_start: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        if done == 0 and stage not in at_start:
            at_start[stage] = mx.get_active_memory() - before

    list(generate_each(three(folder)[:2], report=report))
    begun = {name: held for name, held in at_start.items() if not name.endswith("clip 2 of 2")}
    begun["second"] = at_start["decode, clip 2 of 2"]
    assert list(begun) == [
        "text",
        "stage 1, 32x32, clip 1 of 2",
        "upscale",
        "stage 2, 64x64, clip 1 of 2",
        "decode, clip 1 of 2",
        "second",
    ]
    contexts = 4 * 1024 * 64
    assert max(begun.values()) < 2 * contexts + 100_000
    assert at_start["stage 1, 32x32, clip 2 of 2"] > 1_000_000  # the transformer stays for it
