import re

import pytest

from ltx_infer.hub import find_model
from ltx_infer.pipeline.find_lora import distilled_lora_in, find_lora, step_of
from ltx_models.errors import UserError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_a_file_is_itself(tmp_path):
    touch(tmp_path, "a.safetensors", "b.safetensors")
    assert find_lora(str(tmp_path / "b.safetensors")) == tmp_path / "b.safetensors"
    assert step_of(tmp_path / "b.safetensors") is None


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.safetensors")
    assert find_lora("~/a.safetensors") == tmp_path / "a.safetensors"


def test_the_one_file_of_a_folder(tmp_path):
    touch(tmp_path, "a.safetensors", "README.md")
    assert find_lora(str(tmp_path)) == tmp_path / "a.safetensors"


def test_a_training_run_gives_its_newest_step(tmp_path):
    steps = (250, 99_750, 100_000)  # the last has a digit more, and sorts first
    names = [f"lora_weights_step_{step:05d}.safetensors" for step in steps]
    touch(tmp_path / "checkpoints", *names, ".lora_weights_step_100250.safetensors.unfinished")
    for named in (tmp_path, tmp_path / "checkpoints"):
        found = find_lora(str(named))
        assert found == tmp_path / "checkpoints" / names[-1]
        assert step_of(found) == 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.safetensors", "--lora gone.safetensors: no such file or folder. It takes a"),
        ("loras/gone.safetensors", "no such file or folder. It takes a .safetensors file, a"),
        ("me/style", "--lora me/style: it is not on this machine, nor whole in "),
        ("me/style::a.safetensors", "HF_HUB_OFFLINE is set.\nUnset that to let it be fetched"),
    ],
)
def test_what_is_not_there(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        find_lora(text)


def test_folders_without_one_answer(tmp_path):
    with pytest.raises(UserError, match=r"no \.safetensors in this folder"):
        find_lora(str(tmp_path))
    touch(tmp_path, "b.safetensors", "a.safetensors")
    with pytest.raises(
        UserError, match=r"name one of its files:\na\.safetensors, b\.saf.*\nAs .*::a"
    ):
        find_lora(str(tmp_path))
    assert find_lora(f"{tmp_path}::b.safetensors") == tmp_path / "b.safetensors"
    with pytest.raises(UserError, match=r"::c: no such file in .*; it has a\.safetensors, b\.saf"):
        find_lora(f"{tmp_path}::c")
    touch(tmp_path, *(f"c{i}.safetensors" for i in range(8)))
    with pytest.raises(UserError, match=r"c5\.safetensors and 2 more\nAs .*::a\.saf"):
        find_lora(str(tmp_path))


def test_a_run_that_trained_all_weights_has_none(tmp_path):
    names = [f"model_weights_step_{step:05}.safetensors" for step in (99_750, 100_000)]
    touch(tmp_path / "checkpoints", *names)
    with pytest.raises(UserError) as error:
        find_lora(str(tmp_path))
    assert str(error.value) == (
        f"--lora {tmp_path}: this run trained all weights, and left no adapter.\n"
        f"Give its model instead: --model {tmp_path}/checkpoints/"
        "model_weights_step_100000.safetensors"
    )


def test_steps_beside_other_files_are_not_guessed_from(tmp_path):
    touch(tmp_path, "a.safetensors", "b.safetensors", "lora_weights_step_00100.safetensors")
    with pytest.raises(UserError, match="name one of its files"):
        find_lora(str(tmp_path))


def test_distilled_lora_of_the_stand_in(tiny):
    found = distilled_lora_in(find_model("tiny", variant="dev").folder)
    assert found == tiny / "ltx-2.3-tiny-distilled-lora-4.safetensors"


@pytest.mark.parametrize("inside", ["", "lora"])
def test_newest_distilled_lora(inside, tmp_path):
    stem = "ltx-2.3-22b-distilled-lora-384"
    touch(tmp_path, "ltx-2.3-22b-distilled.safetensors", "my-lora.safetensors")
    touch(tmp_path / inside, *(f"{stem}{end}.safetensors" for end in ("", "-1.9", "-1.10")))
    assert distilled_lora_in(tmp_path).name == f"{stem}-1.10.safetensors"


def test_distilled_lora_that_is_missing_or_ambiguous(tmp_path):
    touch(tmp_path, "ltx-2-19b-distilled.safetensors", "my-lora.safetensors")
    with pytest.raises(UserError, match=r"(?s)no distilled LoRA.*--distilled-lora FILE"):
        distilled_lora_in(tmp_path)
    names = ["ltx-2-19b-distilled-lora-384", "ltx-2.3-22b-distilled-lora-384"]
    touch(tmp_path, *(f"{name}.safetensors" for name in names))
    with pytest.raises(UserError, match=r"ltx-2-19b-dis.*tensors, ltx-2\.3-22b-dist"):
        distilled_lora_in(tmp_path)
