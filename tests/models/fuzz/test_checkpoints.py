"""Checkpoints of any bytes: networks filled rightly, or exit code 2 and at most four lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.check import check_networks
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.video_vae import load_video_decoder
from ltx_models.weights import torch_layout
from tests.models.fuzz.adapters import NESTED
from tests.models.fuzz.damage import DAMAGES, DTYPES, Draw
from tests.models.fuzz.raw import joined, parted, refused, values
from tests.models.fuzz.settings import FUZZ, MOST_MEMORY

NAME, DECODER = "ltx-2.3-tiny.safetensors", "vae.decoder."
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 3, -1, 2**20, 2**31, 10**400, 1e308, 0.5, float("nan")),
    *("", "a\nb\nc\nd\ne\nf", "x" * 10**5, [], {}, [[]], [1, 2, 3], {"a": 1}, ["res_x", 10**6]),
    *([2**20], [["res_x", {"num_layers": 10**6}]] * 3, [["res_x_y", {"multiplier": 1000}]] * 30),
)
KEYS = ("a", "", "num_layers", "a\nb\nc\nd\ne\nf", "\u202e", "x" * 10**4, "resblock")
VERSIONS = ("2.0", "2.4", "9" * 5000, "", "2\n.\n3\n.\n4\n5", "0.9", "\u0662", "two")


class File:
    """The stand-in's header and data, to be changed."""

    def __init__(self, blob: bytes):
        head, self.data = parted(blob)
        self.header = json.loads(head)
        self.about = self.header["__metadata__"]
        self.config = json.loads(self.about["config"])

    def tensors(self) -> list[str]:
        return [key for key in self.header if key != "__metadata__"]

    def blob(self) -> bytes:
        if self.config is not None:
            self.about["config"] = json.dumps(self.config)
        return joined(json.dumps(self.header).encode(), self.data)


def take_out(draw: Draw, file: File) -> None:
    """Some tensors are missing, and no hole is left."""
    gone = draw(st.sampled_from(file.tensors()))
    if draw(st.booleans()):
        gone = gone.split(".")[0]
    kept, end, header = [], 0, {"__metadata__": file.about}
    for key in file.tensors():
        if not key.startswith(gone):
            start, stop = file.header[key]["data_offsets"]
            kept.append(file.data[start:stop])
            place = [end, end + stop - start]
            header[key], end = {**file.header[key], "data_offsets": place}, place[1]
    file.header, file.data = header, b"".join(kept)


def rename(draw: Draw, file: File) -> None:
    key = draw(st.sampled_from(file.tensors()))
    odd = st.sampled_from((f"{key}2", key.upper(), "x", "", f"{key}\n", f"vae.{key}", "vae.", "é"))
    about = file.header.pop(key)
    file.header[draw(odd)] = about


def turn(draw: Draw, file: File) -> None:
    """The same numbers in another shape."""
    about = file.header[draw(st.sampled_from(file.tensors()))]
    count = int(np.prod(about["shape"]))
    about["shape"] = draw(st.sampled_from(([count], [1, count], [*about["shape"], 1], [count, 1])))


def widen(draw: Draw, file: File) -> None:
    """Halves as whole numbers of another type and of half the number."""
    about = file.header[draw(st.sampled_from(file.tensors()))]
    about["dtype"] = draw(st.sampled_from(DTYPES))
    if about["shape"] and about["shape"][-1] % 2 == 0:
        about["shape"][-1] //= 2


def half_types(draw: Draw, file: File) -> None:
    """The same bytes are other numbers, which is no fault that can be seen."""
    for key in draw(st.lists(st.sampled_from(file.tensors()), max_size=5)):
        file.header[key]["dtype"] = "F16"


def order(draw: Draw, file: File) -> None:
    """Another order in the header, which means nothing."""
    keys = list(file.header)
    draw(st.randoms(use_true_random=False)).shuffle(keys)
    file.header = {key: file.header[key] for key in keys}


def setting(draw: Draw, file: File) -> None:
    """A setting of the configuration, at any depth, is another, more or gone."""
    at: Any = file.config
    for _ in range(draw(st.integers(1, 5))):
        inside = list(at) if isinstance(at, dict) else list(range(len(at)))
        below = [key for key in inside if isinstance(at[key], dict | list)]
        if not below:
            break
        at = at[draw(st.sampled_from(below))]
    keys = list(at) if isinstance(at, dict) else list(range(len(at)))
    if not keys:
        return
    key, how = draw(st.sampled_from(keys)), draw(st.integers(0, 5))
    if how == 0:
        del at[key]
    elif how == 1 and isinstance(at, dict):
        at[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(VALUES))
    else:
        at[key] = draw(st.sampled_from(VALUES))


def size(draw: Draw, file: File) -> None:
    """A whole number of the configuration is another."""
    found: list[tuple[Any, Any]] = []
    nodes = list(file.config.values())
    while nodes:
        at = nodes.pop()
        for key, value in at.items() if isinstance(at, dict) else enumerate(at):
            if isinstance(value, dict | list):
                nodes.append(value)
            elif type(value) is int:
                found.append((at, key))
    at, key = draw(st.sampled_from(found))
    others = (0, 1, 2, 3, 7, 1000, 2**16, 2**20, 2**20 + 1, 2**31, 2**63, -1)
    at[key] = draw(st.sampled_from((*others, at[key] * 2, at[key] + 1)))


def metadata(draw: Draw, file: File) -> None:
    match draw(st.integers(0, 4)):
        case 0:
            file.about["model_version"] = draw(st.sampled_from(VERSIONS))
        case 1:
            file.about["config"], file.config = draw(st.sampled_from(NESTED)), None
        case 2:
            del file.about["config"]
            file.config = None
        case 3:
            file.about[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(VALUES[:14]))
        case 4:
            file.config = draw(st.sampled_from(VALUES))


FAULTS = (take_out, rename, turn, widen, half_types, order, setting, setting, size, size, metadata)


@st.composite
def changes(draw: Draw) -> Callable[[bytes], bytes]:
    """What is done to the stand-in's bytes."""
    fault = draw(st.sampled_from(FAULTS))
    damage = draw(st.sampled_from((*[None] * 4 * len(DAMAGES), *DAMAGES)))

    def change(blob: bytes) -> bytes:
        if damage is not None:
            return damage(draw, blob)
        file = File(blob)
        fault(draw, file)
        return file.blob()

    return change


@st.composite
def files(draw: Draw, blob: bytes) -> bytes:
    return draw(changes())(blob)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    """The stand-in with a copy of its checkpoint, to be written over."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for path in tiny.iterdir():
        if path.name != NAME:
            (folder / path.name).symlink_to(path)
    (folder / "whole").write_bytes((tiny / NAME).read_bytes())
    return folder


def check(data: st.DataObject, folder: Path) -> bool:
    """Whether a changed file was refused."""
    path = folder / NAME
    path.unlink(missing_ok=True)
    path.write_bytes(data.draw(files((folder / "whole").read_bytes())))
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    found = refused(lambda: _check_and_compare(path))
    assert mx.get_peak_memory() - before < MOST_MEMORY
    return found


def _check_and_compare(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    check_networks(checkpoint, gemma=path.parent / "gemma-3-tiny", upscaler=None)
    _compare(checkpoint, path)


def _compare(checkpoint: Checkpoint, path: Path) -> None:
    """One network has the numbers that the file has, by another reader."""
    layers = torch_layout(load_video_decoder(checkpoint, dtype=mx.float32))
    there = values(path)
    assert layers
    for key, value in layers.items():
        name = f"{DECODER}{key}" if f"{DECODER}{key}" in there else f"vae.{key}"
        assert np.array_equal(np.array(value), there[name].astype(np.float32), equal_nan=True), key


@settings(FUZZ, max_examples=15)
@given(data=st.data())
def test_some(data, folder):
    check(data, folder)


@pytest.mark.slow
@settings(FUZZ, max_examples=200)
@given(data=st.data())
def test_two_hundred(data, folder):
    check(data, folder)
