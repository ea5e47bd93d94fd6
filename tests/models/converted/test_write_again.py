"""A conversion that was stopped goes on, and one that cannot be made writes nothing."""

import shutil
from dataclasses import replace

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.conversion import LAST, plan_conversion
from ltx_models.converted.layout import COMPONENTS
from ltx_models.converted.plan import plan_shards
from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import read_lora
from ltx_models.quantize import quantization
from ltx_models.transformer import load_transformer
from ltx_models.weights import TensorFile
from tests.conftest import GOLDEN
from tests.models.converted.folders import golden, tensors_of

SOURCE = GOLDEN / "ltx2.3-tiny.safetensors"
UPSCALER = GOLDEN / "upscaler-x2-tiny.safetensors"
LARGEST = 200_000


def request(output, **options):
    return ConvertRequest(SOURCE, output, largest_file=LARGEST, upscalers=(UPSCALER,), **options)


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class StoppedError(Exception):
    pass


def stop_at(folder, number):
    def report(name, done, _total):
        if (name, done) == (folder, number):
            raise StoppedError

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    convert(request(folder, how=quantization(4)))
    return folder


@pytest.mark.parametrize(
    ("folder", "number"), [("transformer", 200), pytest.param("copies", 0, marks=pytest.mark.slow)]
)
def test_one_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, whole, folder, number):
    asked = request(tmp_path, how=quantization(4))
    with pytest.raises(StoppedError):
        convert(asked, report=stop_at(folder, number))
    assert not (tmp_path / LAST).exists()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    convert(asked)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(tmp_path) == contents(whole)


def test_one_that_is_whole_writes_no_weights(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")}
    assert plan_conversion(request(whole, how=quantization(4))).missing_bytes == 0
    convert(request(whole, how=quantization(4)))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")} == before


@pytest.mark.slow
def test_a_torn_file_is_written_again(tmp_path, whole):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    torn = tmp_path / "vae/decoder/model.safetensors"
    torn = torn if torn.is_file() else next((tmp_path / "vae/decoder").glob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-4])
    convert(request(tmp_path, how=quantization(4)))
    assert contents(tmp_path) == contents(whole)


def test_no_part_of_a_file_stays_when_the_disk_is_full(tmp_path, small_files):
    with pytest.raises(OSError, match="File too large"):
        convert(replace(request(tmp_path), largest_file=10**9))
    assert [path for path in tmp_path.rglob("*") if "unfinished" in path.name] == []


LORA = (read_lora(GOLDEN / "lora-comfy-ltx23.safetensors"), Strength(1.0))


@pytest.mark.parametrize(
    "other",
    [
        {"how": quantization(8)},
        {"how": quantization(4), "variant": "dev"},
        {"how": quantization(4), "loras": (LORA,)},
    ],
    ids=["bits", "variant", "LoRA"],
)
def test_another_request_into_the_folder_is_refused(whole, other):
    asked = replace(request(whole), **other)
    before = contents(whole)
    with pytest.raises(UserError) as error:
        convert(asked)
    assert str(error.value) == (
        f"--output {whole}: holds another conversion or other files (README.md, audio_vae, "
        "config.json, text_projections, ...).\n"
        "Name another folder, or write over a converted one with --overwrite"
    )
    assert contents(whole) == before


@pytest.mark.slow
def test_overwriting_leaves_nothing_of_the_old_one(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    (tmp_path / "a/gemma").mkdir()  # not ours
    asked = request(tmp_path / "a", overwrite=True, variant="dev")
    convert(replace(asked, largest_file=10**9))
    convert(replace(request(tmp_path / "b", variant="dev"), largest_file=10**9))
    (tmp_path / "a/gemma").rmdir()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_is_not_ours_is_not_overwritten(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"1")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no converted folder, so nothing of it is removed"):
        convert(request(tmp_path, overwrite=True))
    assert contents(tmp_path).keys() == {"photo.png", "config.json"}


def refused(asked) -> str:
    with pytest.raises(UserError) as error:
        convert(asked)
    return str(error.value)


def test_the_source_is_not_written_over(tmp_path, whole):
    shutil.copy(SOURCE, tmp_path / "model.safetensors")
    asked = ConvertRequest(tmp_path / "model.safetensors", tmp_path, overwrite=True)
    assert refused(asked) == f"--output {tmp_path}: the source lies in it; name another folder"


def test_what_is_quantised_is_not_converted(tmp_path, whole):
    how = "affine 4 bit, groups of 32"
    said = f"{whole}: is quantised already ({how}); start from its float weights"
    assert refused(ConvertRequest(whole, tmp_path / "out", how=quantization(8))) == said
    assert not (tmp_path / "out").exists()


def test_groups_that_fit_no_layer():
    vae = [each for each in COMPONENTS if each.folder == "vae/encoder"]
    with pytest.raises(UserError) as error:
        plan_shards(TensorFile(SOURCE), vae, quantization(8))
    said = f"{SOURCE}: no layer can be quantised in groups of 64; smaller ones may fit"
    assert str(error.value) == said


def test_a_lora_of_another_model(tmp_path):
    other = read_lora(GOLDEN / "lora-comfy-ltx2.safetensors")
    said = refused(request(tmp_path / "out", loras=((other, Strength()),)))
    assert said.startswith(f"{other.path}")
    assert not (tmp_path / "out").exists()


def test_strengths_that_are_too_large_for_numbers(tmp_path):
    own = read_lora(GOLDEN / "lora-comfy-ltx23.safetensors")
    said = refused(request(tmp_path / "out", loras=((own, Strength(1e40)),)))
    assert said.endswith("with the LoRAs in it it is not finite; lower strengths may do")
    assert not (tmp_path / "out" / LAST).exists()


def test_a_text_encoder_that_is_none_is_told_before_anything_is_written(tmp_path):
    asked = request(tmp_path / "out", how=quantization(4), compensate=4, gemma=tmp_path)
    assert "no config.json in this folder" in refused(asked)
    assert not (tmp_path / "out").exists()


def test_compensation_of_nothing(tmp_path):
    said = "--compensate: there is nothing to make up for without -q BITS"
    assert refused(request(tmp_path / "out", compensate=4)) == said
    asked = request(tmp_path / "out", compensate=0, how=quantization(4))
    assert refused(asked) == "--compensate 0: a rank from 1 up would fit"


def test_a_disk_without_room(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    size = plan_conversion(request(tmp_path / "out")).num_bytes
    assert refused(request(tmp_path / "out")) == (
        f"--output {tmp_path / 'out'}: {size / 1e6:.1f} MB ({size} bytes) are to be written, "
        "and 1.0 MB are free there. Nothing was written"
    )
    assert not (tmp_path / "out").exists()


def test_few_bits_are_warned_of(tmp_path):
    lines = plan_conversion(request(tmp_path, how=quantization(2))).notes
    assert lines[1:] == (
        "warning: 2 bits put an error of 36 % into each layer's output (4 bits: 8 %, 6 bits: 2 %); "
        "expect a worse clip",
    )
    assert len(plan_conversion(request(tmp_path, how=quantization(4))).notes) == 1


@pytest.mark.slow
def test_compensation_goes_on_where_it_was_stopped(tmp_path):
    def asked(name):
        how = quantization(4)
        return request(tmp_path / name, how=how, compensate=3, gemma=GOLDEN / "gemma3-tiny")

    with pytest.raises(StoppedError):
        convert(asked("a"), report=stop_at("transformer", 200))
    assert list((tmp_path / "a/transformer").glob("*.safetensors"))  # one file at least was done
    convert(asked("a"))
    convert(asked("b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    checkpoint = open_checkpoint(tmp_path / "a")
    adapters = [key for key in checkpoint.file.infos if key.endswith("compensation_A")]
    assert len(adapters) == len(checkpoint.quantization) > 0
    load_transformer(checkpoint, dtype=mx.float32)


def test_a_source_that_is_not_whole(tmp_path):
    tensors = tensors_of(golden("ltx2.3-tiny"))
    key = "text_embedding_projection.video_aggregate_embed.weight"
    tensors[key] = tensors[key][:-1]
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), tensors, dict(golden("ltx2.3-tiny").file.metadata))
    said = refused(ConvertRequest(path, tmp_path / "out"))
    assert said.startswith(f"{path} does not fit FeatureExtractorV2:\n{key}: ")
    assert not (tmp_path / "out").exists()
