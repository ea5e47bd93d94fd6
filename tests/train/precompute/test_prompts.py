import json
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.text_encoder import encode_features
from ltx_models.weights import TensorFile
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.prompts import encode_prompt_list, file_name
from ltx_train.precompute.text import KEPT
from tests.conftest import GOLDEN

GEMMA, MODEL = GOLDEN / "gemma3-tiny", GOLDEN / "ltx2.3-tiny.safetensors"


def encode(folder: Path, prompts: str | None, *, name: str = "prompts.txt", **changes):
    if prompts is not None:
        (folder / name).write_text(prompts)
    config = PrecomputeConfig(
        **{
            "output_dir": folder / "out",
            "model": str(MODEL),
            "text_encoder_repo": GEMMA,
            "prompts_only": True,
            "prompts_file": folder / name,
            **changes,
        },
    )
    found = encode_prompt_list(config, report=lambda *_: None)
    return [(outcome.name, outcome.status, outcome.reason) for outcome in found]


def stored(path: Path) -> dict[str, mx.array]:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


def test_a_file_for_each_prompt(tmp_path):
    found = encode(tmp_path, "A red fox.\n\nTwo boats\nA red fox.\n", negative_prompt="blurry")
    names = ["001-a-red-fox", "002-two-boats", "003-a-red-fox"]
    assert found == [(f"{name}.safetensors", "done", "") for name in names]
    prompts = ["blurry", "A red fox.", "Two boats"]
    checkpoint = open_checkpoint(MODEL)
    direct = encode_features(GEMMA, checkpoint, prompts, dtype=mx.float32)
    negative, fox, boats = direct
    for name, expected in zip(names, (fox, boats, fox), strict=True):
        tensors = stored(tmp_path / "out" / f"{name}.safetensors")
        for prefix, features in (("", expected), ("negative_", negative)):
            assert mx.array_equal(tensors.pop(f"{prefix}video_prompt_embeds"), features.video)
            assert mx.array_equal(tensors.pop(f"{prefix}audio_prompt_embeds"), features.audio)
            mask = tensors.pop(f"{prefix}prompt_attention_mask")
            assert mask.tolist() == [True] * features.video.shape[0]
        assert tensors == {}
    about = TensorFile(tmp_path / "out/002-two-boats.safetensors").metadata
    assert about.pop("model_hash")
    assert about == {"prompt": "Two boats", "negative_prompt": "blurry", "model_version": "2.3.0"}


def test_what_is_current_is_kept(tmp_path):
    encode(tmp_path, "A red fox.\nTwo boats")
    path = tmp_path / "out/001-a-red-fox.safetensors"
    before = path.stat().st_ino
    assert [reason for _, _, reason in encode(tmp_path, "A red fox.\nThree boats")] == [KEPT, ""]
    assert path.stat().st_ino == before
    assert {reason for _, _, reason in encode(tmp_path, None, negative_prompt="blurry")} == {""}
    assert {reason for _, _, reason in encode(tmp_path, None, overwrite=True)} == {""}
    with pytest.raises(UserError, match=r"001-a-red-fox\.safetensors: made with"):
        encode(tmp_path, None, model=str(GOLDEN / "ltx2-tiny.safetensors"))


def test_prompts_of_a_table_and_faults_in_it(tmp_path):
    rows = [{"prompt": "A fox."}, {"other": 3}, {"prompt": "fox " * 1100}]
    text = "\n".join([*map(json.dumps, rows), "no JSON"])
    found = encode(tmp_path, text, name="p.jsonl", caption_column="prompt", trigger="sks")
    assert [(name, status) for name, status, _ in found] == [
        ("p.jsonl line 4", "failed"),
        ("p.jsonl line 2", "failed"),
        ("001-sks-a-fox.safetensors", "done"),
        ("002-sks-fox-fox-fox-fox-fox-fox-fox-fox-fox.safetensors", "done"),
    ]
    assert found[1][2] == "no prompt"
    assert "tokens of its text are left out, 1024 are read" in found[3][2]


def test_names_of_files():
    assert file_name(7, "A boat, at dusk!") == "007-a-boat-at-dusk.safetensors"
    assert file_name(1234, "Größe 船") == "1234-größe-船.safetensors"
    assert file_name(1, "!?") == "001.safetensors"
    assert file_name(1, "../../etc/passwd") == "001-etc-passwd.safetensors"
    assert len(file_name(1, "boat " * 99)) < 60


@pytest.mark.parametrize(
    ("prompts", "changes", "said"),
    [
        (None, {"prompts_file": None}, "--prompts-only: it wants the prompts in --prompts-file"),
        (None, {}, "there is no such file"),
        ("\n \n", {}, "prompts.txt: no prompt in it"),
        ("A fox", {"model": "gone"}, "--model gone: "),
        ("A fox", {"text_encoder_repo": Path("gone")}, "gone"),
        ("A fox", {"output_dir": Path("/dev/null/out")}, "--output-dir /dev/null/out: "),
    ],
)
def test_what_concerns_all_prompts(tmp_path, prompts, changes, said):
    with pytest.raises(UserError) as error:
        encode(tmp_path, prompts, **{"output_dir": tmp_path / "out", **changes})
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()
