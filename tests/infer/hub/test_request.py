"""Exactly which files a request fetches, of which repository; what they hold does not matter."""

from pathlib import Path

import pytest

from ltx_infer.config import build
from ltx_infer.hub import find_model
from ltx_infer.hub.place import _listed
from ltx_infer.hub.request import fetch_distilled_lora, find_files
from ltx_infer.hub.text_encoder import default_repository
from ltx_infer.pipeline.find_lora import find_lora, list_lora_files
from ltx_infer.plan.dry_run import UNKNOWN, dry_run
from ltx_models.device import machine_memory
from ltx_models.errors import UserError

GEMMA = {
    "config.json": b'{"model_type": "gemma3"}',
    "tokenizer.json": b"{}",
    "model-00001-of-00002.safetensors": b"1",
    "model-00002-of-00002.safetensors": b"2",
    "model.safetensors.index.json": b"[]",
    "README.md": b"words",
    "preview.png": b"picture",
}
FOR_HERE = default_repository(machine_memory())
RELEASED = [
    "ltx-2-19b-dev.safetensors",
    "ltx-2-19b-dev-fp8.safetensors",
    "ltx-2-19b-dev-fp4.safetensors",
    "ltx-2-19b-distilled.safetensors",
    "ltx-2-19b-distilled-fp8.safetensors",
    "ltx-2-19b-distilled-lora-384.safetensors",
    "ltx-2-spatial-upscaler-x2-1.0.safetensors",
    "ltx-2-temporal-upscaler-x2-1.0.safetensors",
    "README.md",
    "model_index.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
]
NEWER = [
    "ltx-2.3-22b-dev.safetensors",
    "ltx-2.3-22b-distilled.safetensors",
    "ltx-2.3-22b-distilled-1.1.safetensors",
    "ltx-2.3-22b-distilled-lora-384.safetensors",
    "ltx-2.3-22b-distilled-lora-384-1.1.safetensors",
    "ltx-2.3-spatial-upscaler-x1.5-1.0.safetensors",
    "ltx-2.3-spatial-upscaler-x2-1.0.safetensors",
    "ltx-2.3-spatial-upscaler-x2-1.1.safetensors",
]
CONVERTED = [
    "config.json",
    "transformer/config.json",
    "transformer/model-00001-of-00002.safetensors",
    "transformer/model-00002-of-00002.safetensors",
    "transformer/model.safetensors.index.json",
    "vae/encoder/config.json",
    "vae/encoder/model.safetensors",
    "vae/decoder/config.json",
    "vae/decoder/model.safetensors",
    "text_projections/config.json",
    "text_projections/model.safetensors",
]
COMPANIONS = [
    "upscalers/ltx-2-spatial-upscaler-x2-1.0.safetensors",
    "lora/ltx-2-19b-distilled-lora-384.safetensors",
    "samples/boat.mp4",
    "README.md",
]


def each(names):
    """Files that differ, as equal ones are one in the cache."""
    return {name: name.encode() for name in names}


@pytest.fixture
def repositories(hub):
    hub.repositories["Lightricks/LTX-2"] = each(RELEASED)
    hub.repositories["Lightricks/LTX-2.3"] = each(NEWER)
    hub.repositories["mlx-community/LTX-2-dev-bf16"] = {
        **each(CONVERTED + COMPANIONS),
        "config.json": b'{"variant": "dev"}',
    }
    hub.repositories[FOR_HERE] = GEMMA
    hub.repositories["you/gemma"] = GEMMA
    return hub


def fetched(hub, *, without=(FOR_HERE,), **asked):
    """Files of the repositories, and the lines that were said."""
    lines = []
    found = find_files(build({"prompt": "a boat", **asked}), say=lines.append)
    names = [name for name in hub.fetched() if not name.startswith(without)]
    return names, found, lines


def files(repository, *names):
    return sorted(f"{repository}/{name}" for name in names)


DISTILLED, DEV = "ltx-2-19b-distilled.safetensors", "ltx-2-19b-dev.safetensors"
LORA, X2 = "ltx-2-19b-distilled-lora-384.safetensors", "ltx-2-spatial-upscaler-x2-1.0.safetensors"
AT_3 = {"model": "Lightricks/LTX-2.3"}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [DISTILLED, X2]),
        ({"one_stage": True}, [DISTILLED]),
        ({"pipeline": "dev"}, [DEV]),
        ({"pipeline": "dev-two-stage"}, [DEV, X2, LORA]),
        ({"pipeline": "dev-two-stage", "one_stage": True}, [DEV]),
        ({"pipeline": "dev-two-stage-hq", "one_stage": True}, [DEV, LORA]),
        ({"pipeline": "t2a"}, [DEV]),
        (
            {"model": "Lightricks/LTX-2::ltx-2-19b-dev-fp8.safetensors", "pipeline": "dev"},
            [RELEASED[1]],
        ),
        (AT_3, [NEWER[2], NEWER[7]]),
        ({**AT_3, "pipeline": "keyframe"}, [NEWER[0], NEWER[4], NEWER[7]]),
        ({**AT_3, "spatial_upscaler": "x1.5-1.0"}, [NEWER[2], NEWER[5]]),
    ],
)
def test_only_what_the_pipeline_needs(repositories, asked, wanted):
    repository = "Lightricks/LTX-2.3" if "2.3" in asked.get("model", "") else "Lightricks/LTX-2"
    names, found, _ = fetched(repositories, **asked)
    assert names == files(repository, *wanted)
    assert found.num_fetched == len(wanted) + 5  # and the text encoder
    assert found.model.checkpoint.name == wanted[0]


def test_all_is_listed_before_and_nothing_is_fetched_again(repositories):
    _, found, lines = fetched(repositories)
    assert lines == [
        "to fetch from Lightricks/LTX-2: 2 files, 72 bytes",
        f"  {DISTILLED}: 31 bytes",
        f"  {X2}: 41 bytes",
        f"to fetch from {FOR_HERE}: 5 files, 30 bytes",
        "  config.json: 24 bytes",
        "  model-00001-of-00002.safetensors: 1 bytes",
        "  model-00002-of-00002.safetensors: 1 bytes",
        "  model.safetensors.index.json: 2 bytes",
        "  tokenizer.json: 2 bytes",
    ]
    assert found.gemma.name == repositories.commit(FOR_HERE)
    assert found.upscaler == found.model.folder / X2
    _listed.cache_clear()
    names, again, lines = fetched(repositories, without=())
    assert (names, lines, again.num_fetched) == ([], [], 0)


def test_the_choice_of_a_text_encoder_is_noted(repositories):
    _, found, _ = fetched(repositories)
    assert found.model.notes[-1].startswith(f"text encoder: {FOR_HERE}, as a run may take ")
    names, found, _ = fetched(repositories, text_encoder_repo="you/gemma")
    assert names == files("you/gemma", *list(GEMMA)[:5])
    assert not any("text encoder" in note for note in found.model.notes)
    repositories.repositories["me/all"] = {
        DISTILLED: b"x",
        X2: b"u",
        **{f"gemma/{name}": data for name, data in GEMMA.items()},
    }
    names, found, _ = fetched(repositories, model="me/all")
    assert names == files("me/all", DISTILLED, X2, *(f"gemma/{name}" for name in list(GEMMA)[:5]))
    assert found.gemma == found.model.folder / "gemma"


@pytest.mark.parametrize(
    ("gigabytes", "kind"), [(8, "4bit"), (39, "4bit"), (40, "8bit"), (79, "8bit"), (80, "bf16")]
)
def test_a_text_encoder_for_the_memory(gigabytes, kind):
    name = default_repository(gigabytes * 10**9)
    assert name == f"mlx-community/gemma-3-12b-it-{kind}"


def test_a_repository_without_a_gemma_says_what_it_has(repositories):
    with pytest.raises(UserError) as error:
        fetched(repositories, text_encoder_repo="Lightricks/LTX-2.3")
    assert str(error.value) == (
        "--text-encoder-repo Lightricks/LTX-2.3: config.json, tokenizer.json and "
        f"model*.safetensors of a Gemma 3 are wanted; it has {', '.join(sorted(NEWER))}"
    )


def test_an_alias_is_a_converted_repository_and_bits(repositories):
    repository = "mlx-community/LTX-2-dev-bf16"
    config = build({"prompt": "a", "model": "ltx2-dev-4bit-mlx"})
    assert config.quantize == 4
    assert "quantize" not in config.model_fields_set
    names, found, _ = fetched(repositories, model="ltx2-dev-4bit-mlx")
    assert names == files(repository, *CONVERTED, *COMPANIONS[:2])  # dev weights want the LoRA
    assert found.model.checkpoint.is_dir()
    assert (found.model.variant, found.model.bits) == ("dev", 4)
    assert f"ltx2-dev-4bit-mlx: {repository}, quantised to 4 bits at load" in found.model.notes
    assert fetched(repositories, model=repository)[0] == []
    with pytest.raises(UserError, match=r"^--quantize 8: ltx2-dev-4bit-mlx means 4 bit; mlx-comm"):
        build({"prompt": "a", "model": "ltx2-dev-4bit-mlx", "quantize": 8})


def test_the_old_snapshots_are_warned_of(repositories):
    name = "AITRADER/ltx2-dev-4bit-mlx"
    repositories.repositories[name] = each(CONVERTED)
    files = find_model(name, variant="dev")
    assert files.notes == [
        f"{name}: this snapshot is known to be broken; --model ltx2-dev-4bit-mlx is whole"
    ]


def test_a_checkpoint_that_is_damaged_is_told_before_anything_is_fetched(repositories, tmp_path):
    path = tmp_path / "ltx-2.3-22b-distilled-mine.safetensors"
    path.write_bytes(b"words")
    for asked in ({"checkpoint_path": path}, {"model": str(path)}):
        with pytest.raises(UserError, match="not a complete safetensors file"):
            fetched(repositories, one_stage=True, **asked)
    assert repositories.fetched() == []


def test_a_checkpoint_alone_takes_the_rest_from_its_repository(repositories, tiny, tmp_path):
    path = tmp_path / "ltx-2.3-22b-distilled-mine.safetensors"
    path.symlink_to(tiny / "ltx-2.3-tiny.safetensors")
    names, found, _ = fetched(repositories, checkpoint_path=path)
    assert names == files("Lightricks/LTX-2.3", NEWER[7])
    assert found.model.checkpoint == path
    assert found.model.notes[:2] == [
        f"checkpoint: {path}",
        "the rest of the model: Lightricks/LTX-2.3, as nothing lies beside the checkpoint",
    ]
    names, found, _ = fetched(repositories, checkpoint_path=path, model="Lightricks/LTX-2")
    assert names == files("Lightricks/LTX-2", X2)
    assert found.model.notes[1] == "the rest of the model: Lightricks/LTX-2, --model"
    (tmp_path / X2).write_bytes(b"")
    names, found, _ = fetched(repositories, checkpoint_path=path)
    assert names == []
    assert found.model.notes[1] == f"the rest of the model: {tmp_path}, where the checkpoint is"
    with pytest.raises(UserError, match=r"^--checkpoint-path gone: no such file or folder\."):
        fetched(repositories, checkpoint_path=Path("gone"))


def test_loras_of_a_repository(repositories):
    hub = repositories
    hub.repositories["you/one"] = {"style.safetensors": b"1", "README.md": b"2"}
    hub.repositories["you/two"] = {"a.safetensors": b"1", "old/b.safetensors": b"22"}
    assert find_lora("you/one").read_bytes() == b"1"
    assert find_lora("you/two::old/b.safetensors").read_bytes() == b"22"
    assert hub.fetched() == ["you/one/style.safetensors", "you/two/old/b.safetensors"]
    with pytest.raises(UserError) as error:
        find_lora("you/two::c.safetensors")
    assert str(error.value) == (
        "--lora you/two::c.safetensors: no such file in you/two; it has a.safetensors, "
        "old/b.safetensors"
    )
    assert list_lora_files("you/two") == [
        "a.safetensors      1 bytes",
        "old/b.safetensors  2 bytes",
    ]
    names, _, _ = fetched(hub, lora=[["you/one", "0.5"]], one_stage=True)
    assert names == files("Lightricks/LTX-2", DISTILLED)


def test_several_loras_and_none_named(repositories):
    names = [f"{name}.safetensors" for name in "ab"]
    repositories.repositories["you/many"] = each(names)
    with pytest.raises(UserError) as error:
        fetched(repositories, lora=["you/many"])
    assert str(error.value) == (
        "--lora you/many: name one of its files:\na.safetensors, b.safetensors\n"
        "As --lora you/many::a.safetensors"
    )
    assert repositories.fetched() == []  # not even the model


def test_a_distilled_lora_that_no_name_told_of(repositories):
    repositories.repositories["me/boats"] = each(CONVERTED + COMPANIONS)
    config = build({"prompt": "a", "model": "me/boats"})
    model = find_files(config, say=lambda _: None).model
    assert "me/boats/lora/" not in str(repositories.fetched())
    fetch_distilled_lora(config, model)
    assert repositories.fetched() == files("me/boats", COMPANIONS[1])


def test_a_distilled_lora_that_is_given_is_not_fetched(repositories, tmp_path):
    path = tmp_path / "my-distilled-lora.safetensors"
    path.write_bytes(b"")
    names, _, _ = fetched(repositories, pipeline="dev-two-stage", distilled_lora=[str(path)])
    assert names == files("Lightricks/LTX-2", DEV, X2)


def test_what_a_dry_run_would_fetch(hub, repositories):
    config = build({"prompt": "waves"})
    lines = dry_run([config], say=lambda line: None)
    assert lines[0].startswith("to fetch from Lightricks/LTX-2: ")
    assert any("ltx-2-19b-distilled.safetensors" in line for line in lines)
    assert lines[-1] == UNKNOWN
    assert not [name for name in hub.sent if name.endswith(".safetensors")]
