import json

import pytest

from ltx_infer.hub import find_model
from ltx_models.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


def test_tiny_is_complete(tiny):
    files = find_model("tiny", variant="distilled")
    assert files.checkpoint.parent == tiny
    assert files.spatial_upscaler().name == "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
    assert json.loads((files.text_encoder() / "config.json").read_text())["model_type"] == "gemma3"


def test_the_stand_in_has_no_variant(tiny):
    files = find_model("tiny", variant="distilled")
    assert files.variant is None
    assert files.checkpoint == find_model("tiny", variant="dev").checkpoint
    assert files.notes == []


DEV, DISTILLED = "ltx-2-19b-dev.safetensors", "ltx-2-19b-distilled.safetensors"
FP8, FP4 = "ltx-2-19b-dev-fp8.safetensors", "ltx-2-19b-dev-fp4.safetensors"
NEWER = "ltx-2-19b-distilled-1.{}.safetensors"


@pytest.mark.parametrize(
    ("names", "variant", "chosen", "is_"),
    [
        ([DEV, DISTILLED], "distilled", DISTILLED, "distilled"),
        ([DEV, DISTILLED], "dev", DEV, "dev"),
        ([DEV], "distilled", DEV, "dev"),  # which may do, or not: the caller's business
        ([DISTILLED], "dev", DISTILLED, "distilled"),
        (["ltx.safetensors"], "dev", "ltx.safetensors", None),
        (["development.safetensors"], "dev", "development.safetensors", None),
        ([DISTILLED, NEWER.format(1)], "distilled", NEWER.format(1), "distilled"),
        ([NEWER.format(10), NEWER.format(9)], "distilled", NEWER.format(10), "distilled"),
        (["flora-dev.safetensors"], "dev", "flora-dev.safetensors", "dev"),
        ([DEV, FP8, FP4], "dev", DEV, "dev"),
        ([FP8], "dev", FP8, "dev"),
    ],
)
def test_choice_of_a_checkpoint(tmp_path, names, variant, chosen, is_):
    touch(tmp_path, *names)
    touch(tmp_path, "ltx-2-19b-distilled-lora-384.safetensors", "my-lora.safetensors")
    touch(tmp_path, "ltx-2-spatial-upscaler-x2-1.0.safetensors")
    files = find_model(str(tmp_path), variant=variant)
    assert (files.checkpoint.name, files.variant) == (chosen, is_)
    others = ", ".join(sorted(set(names) - {chosen}))
    assert files.notes == ([f"checkpoint: {chosen}, not {others}"] if others else [])


def upscalers(folder, *releases, generation="ltx-2"):
    touch(folder, *(f"{generation}-spatial-upscaler-{name}.safetensors" for name in releases))


def test_file_finds_its_companions_beside_it(tmp_path):
    touch(tmp_path, "a.safetensors")
    upscalers(tmp_path, "x2-1.0", "x2-1.1")
    files = find_model(str(tmp_path / "a.safetensors"), variant="distilled")
    assert files.spatial_upscaler().name == "ltx-2-spatial-upscaler-x2-1.1.safetensors"


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        (None, "x2-1.10"),
        ("x2", "x2-1.10"),
        ("x2-1.9", "x2-1.9"),
        ("x1.5-1.0", "x1.5-1.0"),
        ("x1.5", "x1.5-1.0"),
    ],
)
def test_choice_of_an_upscaler(tmp_path, name, chosen):
    touch(tmp_path, DEV)
    upscalers(tmp_path, "x2-1.9", "x2-1.10", "x1.5-1.0")
    files = find_model(str(tmp_path), variant="dev")
    assert files.spatial_upscaler(name).stem.removeprefix("ltx-2-spatial-upscaler-") == chosen
    (note,) = files.notes
    assert note.startswith(f"spatial upscaler: ltx-2-spatial-upscaler-{chosen}.safetensors, not ")


def test_an_upscaler_of_the_checkpoints_generation_comes_first(tmp_path):
    touch(tmp_path, DEV)
    upscalers(tmp_path, "x2-1.0")
    upscalers(tmp_path, "x2-1.1", generation="ltx-2.3")
    files = find_model(str(tmp_path), variant="dev")
    assert files.spatial_upscaler().name == "ltx-2-spatial-upscaler-x2-1.0.safetensors"
    assert files.spatial_upscaler("x2-1.1").name == "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"


def test_an_upscaler_by_its_file(tmp_path):
    touch(tmp_path, DEV, "upscaler.safetensors")
    (tmp_path / "else").mkdir()
    touch(tmp_path / "else", "other.safetensors")
    files = find_model(str(tmp_path), variant="dev")
    assert files.spatial_upscaler("upscaler.safetensors").parent == tmp_path
    path = tmp_path / "else" / "other.safetensors"
    assert files.spatial_upscaler(str(path)) == path
    assert files.notes == []


def test_the_temporal_upscaler(tmp_path):
    touch(tmp_path, DEV)
    files = find_model(str(tmp_path), variant="dev")
    with pytest.raises(UserError) as error:
        files.temporal_upscaler()
    assert str(error.value) == (
        f"{tmp_path}: no temporal upscaler (*temporal-upscaler-x2*.safetensors) beside the "
        "checkpoint.\nPut it there, or name a model that has one"
    )
    upscalers(tmp_path, "x2-1.1")
    names = ("ltx-2-temporal-upscaler-x2-1.0", "ltx-2-temporal-upscaler-x2-1.2")
    touch(tmp_path, *(f"{name}.safetensors" for name in names))
    touch(tmp_path, "ltx-2.3-temporal-upscaler-x2-1.3.safetensors")
    files = find_model(str(tmp_path), variant="dev")
    assert files.temporal_upscaler().stem == names[1]  # newest of the checkpoint's generation
    assert files.spatial_upscaler().stem == "ltx-2-spatial-upscaler-x2-1.1"


def test_an_upscaler_that_is_not_there(tmp_path):
    touch(tmp_path, DEV)
    upscalers(tmp_path, "x2-1.0", "x1.5-1.0")
    files = find_model(str(tmp_path), variant="dev")
    there = (
        "only ltx-2-spatial-upscaler-x1.5-1.0.safetensors, "
        "ltx-2-spatial-upscaler-x2-1.0.safetensors"
    )
    with pytest.raises(UserError) as error:
        files.spatial_upscaler("x2-1.1")
    assert str(error.value) == (
        f"{tmp_path}: no spatial upscaler x2-1.1 beside the checkpoint, {there}.\n"
        "Put it there, or name another with --spatial-upscaler; --one-stage needs none."
    )
    with pytest.raises(UserError) as error:
        files.spatial_upscaler("gone.safetensors")
    assert str(error.value) == (
        "--spatial-upscaler gone.safetensors: no such file, neither here nor in "
        f"{tmp_path}: {there}.\nIt takes x2-1.0, x2-1.1, x1.5-1.0 or a file."
    )


def test_a_conversion_that_was_stopped_is_no_model(tmp_path):
    touch(tmp_path, "config.json")
    stopped = r"no checkpoint .* If it is a converted one, ltx-convert was stopped: run it again$"
    with pytest.raises(UserError, match=stopped):
        find_model(str(tmp_path), variant="distilled")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder\. It takes tiny, a"):
        find_model(str(tmp_path / "gone"), variant="distilled")
    touch(tmp_path, "file")
    with pytest.raises(UserError, match=r"gone: not a directory\. It takes tiny, a"):
        find_model(str(tmp_path / "file" / "gone"), variant="distilled")
    with pytest.raises(UserError, match=r"no checkpoint \(\.safetensors\) in this folder$"):
        find_model(str(tmp_path), variant="distilled")
    touch(tmp_path, "a-lora-8.safetensors")
    with pytest.raises(UserError, match=r"in this folder, only a-lora-8\.safetensors$"):
        find_model(str(tmp_path), variant="distilled")
    touch(tmp_path, "a.safetensors")
    files = find_model(str(tmp_path), variant="distilled")
    with pytest.raises(UserError, match=r"no spatial upscaler x2 beside .*, nor any other\.\n"):
        files.spatial_upscaler()
    with pytest.raises(UserError, match=r"no folder with a Gemma 3.*\n.*\nName one with --text-"):
        files.text_encoder()


def test_several_checkpoints_are_listed(tmp_path):
    touch(tmp_path, "ltx-2-a.safetensors", "ltx-2-b.safetensors", "my-lora.safetensors")
    with pytest.raises(UserError, match=r"name one of its checkpoints: ltx-2-a\.safete.*, ltx-2-b"):
        find_model(str(tmp_path), variant="distilled")
    with pytest.raises(UserError, match=rf"\nAs --model {tmp_path}::ltx-2-a\.safetensors$"):
        find_model(str(tmp_path), variant="distilled")
    files = find_model(f"{tmp_path}::ltx-2-b.safetensors", variant="distilled")
    assert files.checkpoint == tmp_path / "ltx-2-b.safetensors"
    with pytest.raises(
        UserError, match=r"::my-lora\.safetensors: no such checkpoint in .*; it has l"
    ):
        find_model(f"{tmp_path}::my-lora.safetensors", variant="distilled")


def configs(folder, **texts):
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text)


def test_other_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a.safetensors")
    gemma = '{"model_type": "gemma3_text"}'
    configs(tmp_path, a='{"model_type": "gem', b="[]", c='{"model_type": "t5"}', d=gemma, e=gemma)
    files = find_model(str(tmp_path), variant="distilled")
    assert files.text_encoder() == tmp_path / "d"
    assert files.notes == ["text encoder: d, not e"]


def test_what_was_passed_over_is_told_where_nothing_else_is(tmp_path):
    touch(tmp_path, "a.safetensors")
    configs(tmp_path, t5='{"model_type": "t5"}')
    files = find_model(str(tmp_path), variant="distilled")
    passed = rf"\nPassed over: {tmp_path}/t5/config\.json: model_type t5\n.*\nName one with --t"
    with pytest.raises(UserError, match=passed):
        files.text_encoder()
    configs(tmp_path, gemma='{"model_type": "gem')
    files = find_model(str(tmp_path), variant="distilled")
    with pytest.raises(
        UserError, match=r"\nPassed over: .*gemma/config\.json is not JSON.*, and 1 more\n"
    ):
        files.text_encoder()
