"""Converted folders of any content: networks filled rightly, or exit code 2 and four lines."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.check import check_networks
from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.layout import COMPONENTS, INDEX
from ltx_models.quantize import Quantization
from ltx_models.transformer import load_transformer
from ltx_models.weights import torch_layout
from tests.models.converted.folders import write_folder
from tests.models.fuzz.adapters import NESTED
from tests.models.fuzz.damage import DAMAGES, Draw
from tests.models.fuzz.raw import joined, parted, refused, values
from tests.models.fuzz.settings import FUZZ, MOST_MEMORY
from tests.models.fuzz.test_checkpoints import KEYS, VALUES

FOLDERS = ("", *(component.folder for component in COMPONENTS))
SHARD, CONFIG, TRANSFORMER = "model.safetensors", "config.json", "transformer"
ENTRIES: tuple[Any, ...] = (
    *({"bits": bits, "group_size": 32, "mode": "affine"} for bits in (0, 2, 5, 7, 8, True, "4")),
    *({"bits": 4, "group_size": size, "mode": "affine"} for size in (0, 16, 64, -32, 2**40, None)),
    *({"bits": 4, "group_size": 32, "mode": mode} for mode in ("mxfp4", "nvfp4", "x\n" * 9, 4)),
    *({}, [], None, False, True, {"bits": 4}, {"a\nb\nc\nd\ne": {"bits": 4}}),
)
NAMES = ("x.safetensors", "../" + SHARD, "/etc/passwd", "", ".", "a\nb\nc\nd\ne", 4, None, [])


def lose(draw: Draw, folder: Path) -> None:
    """A file is missing, empty or a folder."""
    path = draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    path.unlink()
    how = draw(st.integers(0, 3))
    if how == 1:
        path.touch()
    elif how == 2:
        path.mkdir()


def spoil(draw: Draw, folder: Path) -> None:
    """A shard is damaged."""
    path = folder / draw(st.sampled_from(FOLDERS[1:])) / SHARD
    path.write_bytes(draw(st.sampled_from(DAMAGES))(draw, path.read_bytes()))


def swap(draw: Draw, folder: Path) -> None:
    """A shard is that of another network, or there is one more."""
    one, other = (folder / draw(st.sampled_from(FOLDERS[1:])) for _ in range(2))
    name = draw(st.sampled_from((SHARD, "more.safetensors")))
    if one != other or name != SHARD:
        shutil.copy(one / SHARD, other / name)


def setting(draw: Draw, folder: Path) -> None:
    """A setting of a config.json is another, more or gone."""
    path = folder / draw(st.sampled_from(FOLDERS)) / CONFIG
    config = json.loads(path.read_text())
    key, how = draw(st.sampled_from((*config, *KEYS))), draw(st.integers(0, 3))
    if how == 0:
        config.pop(key, None)
    else:
        config[key] = draw(st.sampled_from(VALUES))
    path.write_text(json.dumps(config))


def entry(draw: Draw, folder: Path) -> None:
    """What is quantised, and how, is said otherwise; in whole or of one layer."""
    path = folder / TRANSFORMER / CONFIG
    config = json.loads(path.read_text())
    said = draw(st.sampled_from(ENTRIES))
    layers = ("transformer_blocks.0.attn1.to_q", "adaln_single.linear", "x", "", "bits")
    if draw(st.booleans()):
        config["quantization"] = said
    else:
        config.setdefault("quantization", {})[draw(st.sampled_from(layers))] = said
    path.write_text(json.dumps(config))


def index(draw: Draw, folder: Path) -> None:
    """The list of what is in which shard is another."""
    path = folder / draw(st.sampled_from(FOLDERS[1:])) / INDEX
    data = json.loads(path.read_text())
    listed, how = data["weight_map"], draw(st.integers(0, 4))
    key = draw(st.sampled_from((*listed, *KEYS)))
    if how == 0:
        listed.pop(key, None)
    elif how == 1:
        data = draw(st.sampled_from(({}, [], None, {"weight_map": []}, {"weight_map": {}})))
    else:
        listed[key] = draw(st.sampled_from(NAMES))
    path.write_text(json.dumps(data))


def text(draw: Draw, folder: Path) -> None:
    """A JSON file is none."""
    found = sorted(folder.rglob("*.json"))
    odd = [text.encode("utf-8", "surrogatepass") for text in NESTED]
    draw(st.sampled_from(found)).write_bytes(draw(st.sampled_from((*odd, b"\xff\xfe", b"\0" * 9))))


def name(draw: Draw, folder: Path) -> None:
    """A tensor of the transformer has another name, type or shape."""
    path = folder / TRANSFORMER / SHARD
    head, data = parted(path.read_bytes())
    header = json.loads(head)
    key = draw(st.sampled_from(sorted(header)))
    ends = ("weight", "scales", "biases", "bias", "compensation_A", "x")
    about = header[key]
    match draw(st.integers(0, 3)):
        case 0:
            del header[key]
            header[f"{key.rpartition('.')[0]}.{draw(st.sampled_from(ends))}"] = about
        case 1:
            del header[key]
            header[key.replace("attn1", draw(st.sampled_from(("attn2", "x", "q_norm"))))] = about
        case 2 if "shape" in about:
            about["shape"] = [1, *about["shape"]]
        case 3 if about.get("dtype") == "U32":
            about["dtype"] = draw(st.sampled_from(("I32", "F32")))
    path.write_bytes(joined(json.dumps(header).encode(), data))


FAULTS: tuple[Callable[[Draw, Path], None], ...] = (
    *(lose, spoil, swap, setting, setting, entry, entry, index, text, name, name),
)


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory) -> Path:
    """A plain and a quantised folder, and a place for a copy that is changed."""
    place = tmp_path_factory.mktemp("converted")
    (place / "gemma").symlink_to(tiny / "gemma-3-tiny")
    checkpoint = open_checkpoint(tiny / "ltx-2.3-tiny.safetensors")
    write_folder(place / "plain", checkpoint)
    write_folder(place / "quantised", checkpoint, Quantization(4, 32))
    return place


def check(data: st.DataObject, folders: Path) -> None:
    source, copy = data.draw(st.sampled_from(("plain", "quantised"))), folders / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folders / source, copy)
    data.draw(st.sampled_from(FAULTS))(data.draw, copy)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    refused(lambda: _check_and_compare(copy, folders / "gemma"))
    assert mx.get_peak_memory() - before < MOST_MEMORY


def _check_and_compare(folder: Path, gemma: Path) -> None:
    checkpoint = open_checkpoint(folder)
    check_networks(checkpoint, gemma=gemma, upscaler=None)
    there: dict[str, np.ndarray] = {}
    for path in (folder / TRANSFORMER).glob("*.safetensors"):
        there |= values(path)
    layers = torch_layout(load_transformer(checkpoint, dtype=mx.float32))
    assert layers
    for key, value in layers.items():
        assert np.array_equal(np.array(value), there[key], equal_nan=True), key


@settings(FUZZ, max_examples=8)
@given(data=st.data())
def test_some(data, folders):
    check(data, folders)


@pytest.mark.slow
@settings(FUZZ, max_examples=200)
@given(data=st.data())
def test_two_hundred(data, folders):
    check(data, folders)
