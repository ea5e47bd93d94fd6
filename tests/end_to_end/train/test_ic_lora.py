"""An IC-LoRA by the real commands: its references lie in a clip as they lay in training."""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.config import GenerateConfig
from ltx_infer.job import prepare_job
from ltx_infer.pipeline.inputs import encode
from ltx_infer.sampling.conditions import Grid, Reference, condition_video
from ltx_infer.sampling.state import free_state
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import open_checkpoint
from ltx_models.lora.files import read_lora
from ltx_models.text_encoder import PromptContext
from ltx_models.transformer.patchify import patchify_video, video_positions
from ltx_models.video_vae import VideoVAEConfig
from ltx_train.config import read_config
from ltx_train.data.batches import Scales, data_folders, make_batches
from ltx_train.data.dataset import open_dataset
from tests.end_to_end.conftest import read_clip
from tests.end_to_end.film import FPS, read_film, write_cut

CONFIG = Path(__file__).parents[3] / "configs" / "train" / "v2v_ic_lora.yaml"
FRAMES = 17
CHANGES = (
    "model.model_path=tiny",
    "data.preprocessed_data_root=data",
    "output_dir=out",
    "optimization.steps=10",
    "optimization.learning_rate=1e-2",
    "validation.interval=null",
)
ASKED = {
    "model": "tiny",
    "pipeline": "ic-lora",
    "prompt": "a rabbit",
    "height": 128,
    "width": 128,
    "num_frames": FRAMES,
    "fps": FPS,
    "lora": [["out"]],
    "video_conditioning": [["references/0.mp4"]],
    "skip_stage_2": True,
}


def command(name: str, folder: Path, *words: str | Path) -> str:
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, 1), id="half size"),
        pytest.param((2, 2), id="and half the frames", marks=pytest.mark.slow),
    ],
)
def run(request, tiny, tmp_path_factory) -> tuple[Path, tuple[int, int]]:
    """Two clips and their references, what ltx-precompute makes of them, and a run in ``out``."""
    folder, whole, (space, time) = tmp_path_factory.mktemp("ic"), read_film(), request.param
    for number in range(2):
        cut = whole.part(4 * number, FRAMES, top=40 * number, size=(128, 128))
        write_cut(folder / f"clips/{number}.mp4", cut, caption="a rabbit", with_sound=False)
        inverse = cut._replace(frames=255 - cut.frames)
        write_cut(folder / f"references/{number}.mp4", inverse, with_sound=False)
    words = ("--model", "tiny", "--input-dir", "clips", "--output-dir", "data")
    words += ("--resolution-buckets", f"64x64x{FRAMES}", "--reference-dir", "references")
    words += ("--reference-downscale-factor", str(space))
    words += ("--reference-temporal-scale-factor", str(time))
    assert "data: 2 done, 0 skipped, 0 failed" in command("ltx-precompute", folder, *words)
    command("ltx-train", folder, "--config", CONFIG, *CHANGES)
    return folder, (space, time)


@pytest.fixture
def folder(run, monkeypatch) -> Path:
    monkeypatch.chdir(run[0])
    return run[0]


def configured():
    return read_config(CONFIG, CHANGES)


def test_factors_are_found_from_the_sizes_alone(folder, run, tmp_path):
    """As of a data set of the public trainer, whose files do not say them."""
    for path in sorted((folder / "data").rglob("*.safetensors")):
        tensors, about = mx.load(str(path), return_metadata=True)
        about = {key: value for key, value in about.items() if "scale_factor" not in key}
        copy = tmp_path / path.relative_to(folder / "data")
        copy.parent.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(str(copy), tensors, about)
    folders = data_folders(configured().training_strategy)
    assert open_dataset(tmp_path, folders).factors == {"reference_latents": run[1]}


def test_the_adapter_says_them_and_generation_reads_them(folder, run):
    path = folder / "out/checkpoints/lora_weights_step_00010.safetensors"
    _, about = mx.load(str(path), return_metadata=True)
    space, time = run[1]
    assert about["reference_downscale_factor"] == str(space)
    assert about["reference_spatial_scale_factor"] == str(space)
    assert about.get("reference_temporal_scale_factor", "1") == str(time)
    file = read_lora(path)
    assert file.reference_downscale_factor == space
    assert file.reference_temporal_scale_factor == time


def test_references_have_the_positions_that_they_were_trained_at(folder, tiny):
    config = configured()
    checkpoint = open_checkpoint(next(tiny.glob("*-tiny.safetensors")))
    scales = Scales(
        checkpoint.section("vae", VideoVAEConfig).scale,
        checkpoint.section("audio_vae", AudioVAEConfig).scale,
    )
    dataset = open_dataset(folder / "data", data_folders(config.training_strategy))
    context = PromptContext(mx.zeros((1, 4, 64)), None)
    batch = next(make_batches(dataset, lambda one: context, config, scales=scales))["video"]

    job = prepare_job(GenerateConfig.model_validate(ASKED), say=lambda line: None)
    (stage,) = job.recipe.stages
    size = job.size.of(stage.share)
    (inputs,) = encode(job.models, job.media, job.recipe, job.size, report=lambda *_: None)
    (reference,) = inputs.video
    assert isinstance(reference, Reference)
    grid = Grid(job.models.latent_size(size), size.fps, scales.video)
    own = video_positions(grid.size, fps=grid.fps, scale=grid.scale)
    state = condition_video(free_state(mx.zeros((1, own.shape[2], 16)), own), [reference], grid)

    num_shown = patchify_video(reference.latents).shape[1]
    assert batch.x_0.shape[1] == state.tokens.shape[1] == own.shape[2] + num_shown
    # Training has a reference in front of its clip, generation behind it.
    assert np.array_equal(batch.positions[:, :, :num_shown], state.positions[:, :, -num_shown:])
    assert np.array_equal(batch.positions[:, :, num_shown:], own)
    assert not batch.denoise_mask[:, :num_shown].any()


@pytest.mark.slow
def test_a_clip_follows_its_reference(folder, generate):
    def clip(reference: str) -> np.ndarray:
        size = ("--height", "128", "--width", "128", "--num-frames", str(FRAMES), "--fps", "25")
        how = ("--pipeline", "ic-lora", "--skip-stage-2", "--prompt", "a rabbit", "--lora", "out")
        said = generate(folder, *how, *size, "--video-conditioning", reference, "-o", "clip.mp4")
        assert said.startswith(f"clip.mp4: {FRAMES} frames")
        return read_clip(folder / "clip.mp4").frames.astype(int)

    first, second = clip("references/0.mp4"), clip("references/1.mp4")
    assert first.shape == (FRAMES, 64, 64, 3)
    assert np.abs(first - second).mean() > 0.2
