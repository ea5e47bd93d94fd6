import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from ltx_infer import convert_cli
from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.info import about, lines
from ltx_infer.media.video import video_info
from ltx_infer.media.write import write_clip, write_wav
from ltx_infer.pipeline.run import ClipLatents
from ltx_infer.pipeline.saved import Saved, save
from ltx_infer.settings import comment_of
from ltx_models.errors import UserError

CHECKPOINT = "ltx-2.3-tiny.safetensors"
ADAPTER = "ltx-2.3-tiny-distilled-lora-4.safetensors"
UPSCALER = "ltx-2.3-spatial-upscaler-x1.5-1.0.safetensors"


@pytest.fixture
def comment() -> str:
    config = build({"prompt": "a boat", "pipeline": "dev", "lora": [["boats", 0.5]]})
    return comment_of(config, {"checkpoint": {"name": "a.safetensors", "hash": "12"}})


def test_a_clip_of_ours(tmp_path, comment):
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), np.uint8)
    sound = np.zeros((2, 24000), np.float32)
    write_clip(
        tmp_path / "a.mp4",
        [frames],
        fps=24000 / 1001,
        audio=sound,
        sampling_rate=48000,
        comment=comment,
    )
    found = about(tmp_path / "a.mp4")
    assert (found["what"], found["size"], found["frames"]) == ("clip", "48x32", 9)
    assert found["frames a second"] == "24000/1001 (23.976)"
    assert found["sound"] == "aac, stereo, 48000 Hz"
    assert found["settings"]["prompt"] == "a boat"
    assert found["models"]["checkpoint"]["hash"] == "12"
    said = lines(found)
    assert "  prompt           a boat" in said
    assert "    name           a.safetensors" in said
    json.dumps(found)


def test_other_media(tmp_path, comment):
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    write_clip(tmp_path / "a.mp4", [frames], fps=24, comment="by\nme")
    found = about(tmp_path / "a.mp4")
    assert (found["sound"], found["settings"]) == ("none", "none of ltx-mlx")
    assert "comment            by\\nme" in lines(found)
    write_wav(tmp_path / "a.wav", np.zeros((2, 4800), np.float32), rate=48000, comment=comment)
    found = about(tmp_path / "a.wav")
    assert (found["what"], found["settings"]["pipeline"]) == ("sound", "dev")
    assert found["seconds"] == pytest.approx(0.1)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert about(tmp_path / "a.png")["size"] == "20x10"


def test_frames_are_counted_where_no_header_says_how_many(tmp_path):
    frames, sound = np.zeros((9, 32, 48, 3), np.uint8), np.zeros((2, 9000), np.float32)
    path = tmp_path / "a.webm"
    write_clip(path, [frames], fps=120, audio=sound, sampling_rate=48000)
    assert video_info(path).num_frames > 9  # as its sound lasts longer
    assert about(path)["frames"] == 9


def test_a_clip_that_was_upscaled_says_so(tmp_path, comment):
    assert lines({"strength": [0.7, None]}) == ["strength           0.7"]
    step = {"scale": 2.0, "temporal": False, "model": "a"}
    said = json.dumps({**json.loads(comment), "upscaled": [step]})
    write_clip(tmp_path / "a.mp4", [np.zeros((1, 32, 48, 3), np.uint8)], fps=24, comment=said)
    said = ["upscaled", "  1", "    scale          2", "    model          a"]
    assert lines(about(tmp_path / "a.mp4"))[-4:] == said


def test_weights(tiny):
    found = about(tiny / CHECKPOINT)
    assert (found["what"], found["version"]) == ("checkpoint", "2.3.0")
    assert found["networks"]["vocoder"].endswith(" numbers")
    assert found["types"].startswith("BF16 (")
    found = about(tiny / ADAPTER)
    assert (found["what"], found["rank"]) == ("adapter: LoRA on 144 layers", "4")
    assert about(tiny / UPSCALER)["what"] == "latent upscaler, x1.5 the size"
    found = about(tiny / "ltx-2.3-temporal-upscaler-x2-1.0.safetensors")
    assert found["what"] == "latent upscaler, twice the frames"


def test_what_runs_leave(tmp_path, comment):
    latents = ClipLatents(mx.zeros((1, 16, 2, 3, 4)), None)
    save(tmp_path / "a.latents.safetensors", Saved(latents, 24.0, "tiny", comment=comment))
    found = about(tmp_path / "a.latents.safetensors")
    assert found["what"] == "latents of a run; ltx-generate --decode-only takes them"
    assert found["tensors"] == {"video": "(1, 16, 2, 3, 4)"}
    assert found["settings"]["prompt"] == "a boat"

    names = ("video_prompt_embeds", "negative_video_prompt_embeds")
    features = {name: mx.zeros((5, 8)) for name in names}
    said = {"prompt": "a boat", "negative_prompt": "grey", "model_hash": "1-2"}
    mx.save_safetensors(str(tmp_path / "p.safetensors"), features, said)
    found = about(tmp_path / "p.safetensors")
    assert (found["prompt"], found["tokens"]) == ("a boat", 5)
    np.savez(tmp_path / "p.npz", embedding=np.zeros((1, 5, 8)), prompt="a boat")
    assert about(tmp_path / "p.npz")["prompt"] == "a boat"

    said = {"bucket": "64x64x17", "model_hash": "1"}
    mx.save_safetensors(str(tmp_path / "s.safetensors"), {"latents": mx.zeros((1, 2))}, said)
    found = about(tmp_path / "s.safetensors")
    assert found["what"] == "sample of a data set, by ltx-precompute"
    assert found["metadata"] == said


def test_folders(tiny, tmp_path):
    assert about(tiny)["checkpoints"] == [CHECKPOINT]
    found = about(tiny / "gemma-3-tiny")
    assert (found["what"], found["sees pictures"]) == ("text encoder, a Gemma 3", False)

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "training_config.yaml").write_text(
        "model: {model_path: tiny}\nlora: {rank: 16}\noptimization: {steps: 100}\n"
    )
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "loss": 0.5}\n')
    for step in (50, 100):
        path = tmp_path / "checkpoints" / f"lora_weights_step_{step:05}.safetensors"
        path.write_bytes((tiny / ADAPTER).read_bytes())
    found = about(tmp_path)
    assert (found["base"], found["adapters"]) == ("tiny", ["step 50", "step 100"])
    assert found["last of its log"] == {"step": 2, "loss": 0.5}

    data = tmp_path / "data"
    (data / "latents").mkdir(parents=True)
    (data / "latents" / "a.safetensors").write_bytes(b"")
    (data / "manifest.jsonl").write_text('{"clip": "a.mp4"}\n')
    found = about(data)
    assert (found["samples"], found["first clips"]) == ({"latents": 1}, ["a.mp4"])


def test_what_is_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"--info .*gone: there is no such file or folder"):
        about(tmp_path / "gone")
    with pytest.raises(UserError, match="no model, training run, data set or text encoder"):
        about(tmp_path)
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {"weight": mx.zeros(3)})
    with pytest.raises(UserError, match="1 tensors, weight the first; no checkpoint, adapter"):
        about(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no model, training run, data set or text encoder"):
        about(tmp_path)  # whose only weights are none of LTX-2
    (tmp_path / "a.txt").write_text("a boat")
    with pytest.raises(UserError, match=r"a\.txt: not a video or sound"):
        about(tmp_path / "a.txt")


def test_the_command(tiny, capsys):
    main(["--info", str(tiny / UPSCALER)])
    assert "what               latent upscaler, x1.5 the size" in capsys.readouterr().out
    main(["--info", str(tiny / UPSCALER), "--json"])
    assert json.loads(capsys.readouterr().out)["channels"] == 16
    with pytest.raises(SystemExit):
        main(["--info", str(tiny), "--audio", "a boat"])
    said = capsys.readouterr().err
    assert "--info does not go with a boat, --audio: nothing is made" in said


def test_a_converted_folder_counts_weights_not_how_they_are_packed(tiny, tmp_path, capsys):
    convert_cli.main(["--source", "tiny", "--output", str(tmp_path / "a"), "-q", "4"])
    found, original = about(tmp_path / "a"), about(tiny / CHECKPOINT)
    assert found["what"] == "converted folder"
    assert found["networks"] == original["networks"]
    assert found["quantised"] == ["affine 4 bit, groups of 32 (168 layers)"]
    assert len(found["upscalers"]) == 2
