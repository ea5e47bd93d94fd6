"""A clip repeated from what it says of itself, and several clips of one command."""

import shutil
from pathlib import Path

import av
import mlx.core as mx
import pytest
from PIL import Image

from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.generate import generate
from ltx_infer.settings import read_settings
from tests.end_to_end.clips.conftest import same

SMALL = ("-H", "64", "-W", "64", "-n", "9", "--one-stage")
ASKED = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9, "prompt": "a boat"}


def remux(source: Path, target: Path) -> Path:
    """Put the streams and what the file says into another container, as PyAV's users do."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        new.metadata.update(old.metadata)
        tracks = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                new.mux(packet)
    return target


def test_a_clip_is_repeated_from_itself_and_from_its_remux(folder, capsys):
    Image.effect_noise((80, 64), 90).convert("RGB").save("first.png")
    main(["--model", "tiny", *SMALL, "a boat", "--audio", "--seed", "7", "-i", "first.png"])
    main(["--from", "output.mp4", "-o", "again.mp4"])
    assert "then" not in capsys.readouterr().err
    assert Path("output.mp4").read_bytes() == Path("again.mp4").read_bytes()
    copy = remux(Path("output.mp4"), Path("copy.mkv"))
    main(["--from", str(copy), "-o", "from.mp4"])
    assert same(Path("output.mp4"), Path("from.mp4"))
    assert read_settings(remux(copy, Path("copy.mov"))) == read_settings(copy)
    capsys.readouterr()

    Image.effect_noise((80, 64), 90).convert("RGB").save("first.png")
    main(["--from", "again.mp4", "--seed", "8", "-o", "other.mp4"])
    assert "first.png is not the file that it was" in capsys.readouterr().err
    assert read_settings(Path("other.mp4")).asked["seed"] == 8


@pytest.mark.slow
def test_other_weights_are_told_of(folder, tiny, capsys):
    main(["--model", "tiny", *SMALL, "a boat"])
    shutil.copytree(tiny, "model")
    path = Path("model/ltx-2.3-tiny.safetensors")
    tensors, about = mx.load(str(path), return_metadata=True)
    tensors["vocoder.vocoder.conv_pre.bias"] = tensors["vocoder.vocoder.conv_pre.bias"] + 1
    mx.save_safetensors(str(path), tensors, about)
    capsys.readouterr()
    main(["--from", "output.mp4", "--model", "model", "-o", "again.mp4"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " then " in line]
    assert line.startswith("checkpoint: then ltx-2.3-tiny.safetensors (")


@pytest.mark.slow
def test_a_clip_does_not_take_its_own_place_unasked(folder, capsys):
    main(["--model", "tiny", *SMALL, "a boat"])
    with pytest.raises(SystemExit) as end:
        main(["--from", "output.mp4"])
    assert end.value.code == 2
    assert "name another file with --output-path" in capsys.readouterr().err
    main(["--from", "output.mp4", "-o", "output.mp4"])


@pytest.mark.slow
def test_latents_say_what_the_clip_is_to_say(folder):
    config = build({**ASKED, "output_path": "a.mp4"})

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "decode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(config, report=stop)
    main(["--decode-only", "a.latents.safetensors", "-o", "a.mp4"])
    main(["--from", "a.mp4", "-o", "b.mp4"])
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()
