import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.identity import weights_hash
from ltx_models.text_encoder import encode_features
from ltx_models.weights import TensorFile
from ltx_train.inputs.item import Item
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.text import KEPT, with_trigger, write_features
from tests.conftest import GOLDEN

GEMMA = GOLDEN / "gemma3-tiny"
CAPTIONS = {"a.mp4": "A red fox.", "sub/b.mov": "Two boats, at dusk.", "c.png": "A red fox."}


def items(**changed: str) -> list[Item]:
    captions = {**CAPTIONS, **{f"{name}.mp4": text for name, text in changed.items()}}
    return [Item(Path(name), name, caption) for name, caption in captions.items()]


def write(data: Path, *, given=None, model="ltx2.3-tiny", gemma=GEMMA, **changes):
    config = PrecomputeConfig(data, "tiny", **changes)
    seen: list[tuple[str, int, int]] = []
    outcomes = write_features(
        items() if given is None else given,
        config,
        open_checkpoint(GOLDEN / f"{model}.safetensors"),
        gemma,
        report=lambda *step: seen.append(step),
    )
    return {outcome.name: outcome.reason for outcome in outcomes}, seen


def stored(path: Path) -> dict[str, mx.array]:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("model", ["ltx2-tiny", "ltx2.3-tiny"])
def test_each_caption_once_and_the_empty_prompt(tmp_path, model):
    said, seen = write(tmp_path, model=model)
    assert said == dict.fromkeys(CAPTIONS, "")
    assert seen == [("text", number, 3) for number in range(4)]  # two captions and no words
    checkpoint = open_checkpoint(GOLDEN / f"{model}.safetensors")
    weights = weights_hash([GEMMA / "model.safetensors"])
    projection = weights_hash([checkpoint.path], prefixes=("text_embedding_projection.",))
    files = {"conditions/a": "A red fox.", "conditions/sub/b": "Two boats, at dusk."}
    files |= {"conditions/c": "A red fox.", "empty_prompt": ""}
    direct = encode_features(GEMMA, checkpoint, list(files.values()), dtype=mx.float32)
    for (name, caption), expected in zip(files.items(), direct, strict=True):
        path = tmp_path / f"{name}.safetensors"
        tensors = stored(path)
        assert mx.array_equal(tensors["video_prompt_embeds"], expected.video)
        assert tensors["prompt_attention_mask"].tolist() == [True] * expected.video.shape[0]
        if model == "ltx2-tiny":  # one for both
            assert "audio_prompt_embeds" not in tensors
        else:
            assert mx.array_equal(tensors["audio_prompt_embeds"], expected.audio)
        assert TensorFile(path).metadata == {
            "caption": caption,
            "trigger": "",
            "model_version": ".".join(map(str, checkpoint.version)),
            "model_hash": f"{weights}-{projection}",
        }


def test_the_trigger_is_in_front_but_not_of_the_empty_prompt(tmp_path):
    write(tmp_path, given=items(a="sks, a fox."), trigger="sks")
    about = {
        path.stem: TensorFile(path).metadata["caption"] for path in tmp_path.rglob("*.safetensors")
    }
    assert about == {
        "a": "sks, a fox.",
        "b": "sks Two boats, at dusk.",
        "c": "sks A red fox.",
        "empty_prompt": "",
    }
    assert TensorFile(tmp_path / "conditions/a.safetensors").metadata["trigger"] == "sks"
    assert TensorFile(tmp_path / "empty_prompt.safetensors").metadata["trigger"] == ""


@pytest.mark.parametrize(
    ("caption", "trigger", "encoded"),
    [
        ("A fox.", None, "A fox."),
        ("A fox.", "", "A fox."),
        ("A fox.", "sks", "sks A fox."),
        ("sks fox.", "sks", "sks fox."),
        ("sksfox.", "sks", "sks sksfox."),
        ("SKS fox.", "sks", "sks SKS fox."),
        ("[v] fox.", "[v]", "[v] fox."),
        ("", "sks", "sks "),
    ],
)
def test_with_trigger(caption, trigger, encoded):
    assert with_trigger(caption, trigger) == encoded


def test_what_is_current_is_kept(tmp_path):
    write(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert write(tmp_path) == (dict.fromkeys(CAPTIONS, KEPT), [])
    torn = tmp_path / "conditions/c.safetensors"
    torn.write_bytes(torn.read_bytes()[:-10])
    said, seen = write(tmp_path, given=items(a="A blue fox."))
    assert said == {"a.mp4": "", "sub/b.mov": KEPT, "c.png": ""}
    assert seen[-1] == ("text", 2, 2)
    changed = {path.stem for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {"a", "c"}
    assert set(write(tmp_path, overwrite=True)[0].values()) == {""}


def test_files_of_another_model_are_refused_by_name(tmp_path):
    write(tmp_path, model="ltx2-tiny")
    before = (tmp_path / "conditions/a.safetensors").read_bytes()
    with pytest.raises(UserError) as error:
        write(tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{tmp_path}/empty_prompt.safetensors: made with model version 2.0")
    assert "asked for are version 2.3" in first
    assert "--overwrite makes it anew" in second
    assert (tmp_path / "conditions/a.safetensors").read_bytes() == before
    write(tmp_path, overwrite=True)

    gemma = tmp_path / "gemma"
    shutil.copytree(GEMMA, gemma)
    tensors = stored(gemma / "model.safetensors")
    norm = "language_model.model.norm.weight"
    mx.save_safetensors(str(gemma / "model.safetensors"), {**tensors, norm: tensors[norm] + 1})
    with pytest.raises(UserError, match=r"empty_prompt\.safetensors: made with model version 2\.3"):
        write(tmp_path, gemma=gemma)


def test_a_caption_that_is_too_long_is_told_of_each_time(tmp_path):
    given = items(a="fox " * 1100)
    first = write(tmp_path, given=given)[0]["a.mp4"]
    number = first.split()[2]
    assert first == f"the last {number} tokens of its text are left out, 1024 are read"
    assert int(number) > 50
    assert write(tmp_path, given=given)[0]["a.mp4"] == f"{KEPT}; {first}"
    features = stored(tmp_path / "conditions/a.safetensors")["video_prompt_embeds"]
    assert features.shape[0] == 1024


def test_no_items(tmp_path):
    assert write(tmp_path, given=[])[0] == {}
    assert (tmp_path / "empty_prompt.safetensors").is_file()
