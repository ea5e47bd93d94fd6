"""A converted folder in the place of the checkpoint that it was made from."""

import shutil

import pytest

from ltx_infer.cli import main
from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.quantize import quantization
from tests.end_to_end.conftest import read_clip
from tests.models.converted.folders import write_folder, write_json

SMALL = ("--height", "64", "--width", "128", "--num-frames", "9", "--audio", "-p", "a boat")
LORA = "ltx-2.3-tiny-distilled-lora-4.safetensors"


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """The stand-in, as it is and at 4 bits, with what belongs to it."""
    root, checkpoint = (
        tmp_path_factory.mktemp("models"),
        open_checkpoint(tiny / "ltx-2.3-tiny.safetensors"),
    )
    for name, how in (("float", None), ("4bit", quantization(4))):
        folder = write_folder(root / name, checkpoint, how)
        shutil.copytree(tiny / "gemma-3-tiny", folder / "gemma-3-tiny")
        (folder / "upscalers").mkdir()
        for path in tiny.glob("*upscaler*"):
            shutil.copy(path, folder / "upscalers")
        (folder / "lora").mkdir()
        shutil.copy(tiny / LORA, folder / "lora")
    return root


@pytest.mark.slow
def test_the_clip_is_that_of_the_checkpoint(folders, tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    clips = []
    for name in (str(tiny), str(folders / "float")):
        main(["--model", name, *SMALL, "--pipeline", "dev-two-stage", "--steps", "1"])
        clips.append(read_clip(tmp_path / "output.mp4"))
    wanted, found = clips
    assert (found.frames == wanted.frames).all()
    assert (found.sound == wanted.sound).all()


def test_a_quantised_one_is_not_quantised_again(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = folders / "4bit"
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["--model", str(model), *SMALL, "-q", "4"])
    assert capsys.readouterr().err == (
        f"ltx-generate: -q 4: {model} is quantised as it is stored (affine 4 bit, groups of 32).\n"
        "Leave -q out, or name a model that is not quantised\n"
    )


@pytest.mark.parametrize(
    ("name", "said", "variant"),
    [
        ("LTX-2.3-distilled", {}, "distilled"),
        ("LTX-2.3-dev", {}, "dev"),
        ("model", {}, None),
        ("LTX-2.3-dev", {"variant": "distilled"}, "distilled"),
    ],
)
def test_the_variant_is_what_the_configuration_says_else_the_name(tmp_path, name, said, variant):
    write_json(tmp_path / name / "transformer/config.json", {})
    if said:
        write_json(tmp_path / name / "config.json", said)
    found = find_model(str(tmp_path / name), variant="dev")
    assert (found.checkpoint, found.variant) == (tmp_path / name, variant)


@pytest.mark.slow
def test_an_adapter_on_a_quantised_one(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = folders / "4bit"
    main(["--model", str(model), *SMALL, "--lora", str(model / "lora" / LORA)])
    assert read_clip(tmp_path / "output.mp4").frames.std() > 10
