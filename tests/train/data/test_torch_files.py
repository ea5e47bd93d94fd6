import builtins
import os
import pickle
import struct
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltx_models.errors import UserError
from ltx_train.data.torch_files import TorchFile
from tests.train.data.torch_writer import (
    Storage,
    Tensor,
    pickled,
    whole,
    write_archive,
    write_pt,
)

HERE = Path(__file__).parent
NUMBERS = np.arange(24, dtype=np.float32)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "a.pt"


def same(found: mx.array, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and np.array_equal(np.array(found), wanted)


def read_all(path: Path) -> None:
    file = TorchFile(path)
    for key in file.infos:
        file.read(key)


def refused(path: Path) -> str:
    """What is said of a file, by itself or once its tensors are read: one line."""
    with pytest.raises(UserError) as error:
        read_all(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert len(said.splitlines()) == 1
    assert len(said) < 500
    return said


@pytest.mark.parametrize("order", ["little", "big", None])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"])
def test_every_type_in_every_byte_order(file, kind, order):
    values = (NUMBERS.reshape(2, 3, 4) % 2 if kind == "b1" else NUMBERS.reshape(2, 3, 4)) * 1.0
    write_pt(file, {"x": values.astype(kind)}, order=order)
    found = TorchFile(file).read("x")
    assert same(found, values.astype(kind))
    assert found.dtype == (mx.float32 if kind == "f8" else mx.array(values.astype(kind)).dtype)


@pytest.mark.parametrize("order", ["little", "big"])
def test_bfloat16(file, order):
    write_pt(file, {"x": whole("0", NUMBERS.reshape(4, 6) / 8, kind="BFloat16")}, order=order)
    opened = TorchFile(file)
    assert opened.infos["x"] == ("BF16", (4, 6))
    found = opened.read("x")
    assert found.dtype == mx.bfloat16
    assert same(found.astype(mx.float32), NUMBERS.reshape(4, 6) / 8)


def test_views_into_one_storage(file):
    storage = Storage("0", NUMBERS)
    views = {
        "all": Tensor(storage, 0, (2, 12), (12, 1)),
        "turned": Tensor(storage, 0, (12, 2), (1, 12)),
        "part": Tensor(storage, 5, (2, 3), (8, 2)),
        "repeated": Tensor(storage, 3, (4, 2), (0, 1)),
        "one": Tensor(storage, 7, (), ()),
        "none": Tensor(storage, 24, (0, 3), (3, 1)),
    }
    write_pt(file, views)
    opened = TorchFile(file)
    grid = NUMBERS.reshape(2, 12)
    assert same(opened.read("all"), grid)
    assert same(opened.read("turned"), grid.T)
    assert same(opened.read("part"), np.array([[5, 7, 9], [13, 15, 17]], np.float32))
    assert same(opened.read("repeated"), np.array([[3, 4]] * 4, np.float32))
    assert same(opened.read("one"), np.array(7, np.float32))
    assert opened.infos["none"].shape == opened.read("none").shape == (0, 3)


def test_plain_values_are_text_and_others_passed_over(file):
    values = {"n": 3, "fps": 23.976, "text": "ä", "yes": True, "long": 2**40, "x": NUMBERS}
    write_pt(file, {**values, "nested": {"y": 1}, "size": (1, 2)})
    opened = TorchFile(file)
    assert opened.metadata == {
        "n": "3",
        "fps": "23.976",
        "text": "ä",
        "yes": "True",
        "long": str(2**40),
    }
    assert list(opened.infos) == ["x"]


def test_opening_reads_no_storage(file):
    """A file whose storage is damaged opens; reading it does not."""
    write_pt(file, {"x": NUMBERS})
    data = file.read_bytes()
    at = data.index(NUMBERS.tobytes())
    file.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    assert TorchFile(file).infos["x"].shape == (24,)
    assert "Bad CRC-32" in refused(file)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_pythons_own_pickler_writes(file, protocol):
    values = {"fps": 24.0, "list": [1, [2], ()], "text": "x" * 300, "none": None, "t": (1, 2, 3, 4)}
    write_archive(file, pickle.dumps(values, protocol))
    assert TorchFile(file).metadata == {"fps": "24.0", "text": "x" * 300}


def test_files_made_by_torch():
    """Made once by torch 2.13: latents, and conditions of a Parameter in an OrderedDict."""
    latents = TorchFile(HERE / "latents_by_torch.pt")
    assert latents.metadata == {"num_frames": "2", "height": "1", "width": "3", "fps": "24.0"}
    assert latents.infos["latents"] == ("BF16", (4, 2, 1, 3))
    wanted = (NUMBERS - 12) / 8
    assert same(latents.read("latents").astype(mx.float32), wanted.reshape(4, 2, 1, 3))
    conditions = TorchFile(HERE / "conditions_by_torch.pt")
    assert same(conditions.read("video_prompt_embeds"), NUMBERS.reshape(4, 6).T)
    assert same(conditions.read("prompt_attention_mask"), np.arange(6) > 2)


class Calls:
    """Pickled, it asks for a call."""

    def __init__(self, called, *arguments):
        self.parts = called, arguments

    def __reduce__(self):
        return self.parts


def malice(made: str) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make a file, and what is to be said of them."""
    command, code = f"touch {made}", f"open({made!r}, 'w').close()"
    module = os.system.__module__
    return {
        "reduce": (pickle.dumps(Calls(os.system, command), 2), f"{module}.system;"),
        "stack-global": (pickle.dumps(Calls(os.system, command), 4), f"{module}.system;"),
        "eval": (pickle.dumps(Calls(builtins.eval, code), 2), "__builtin__.eval;"),
        "exec": (pickle.dumps(Calls(builtins.exec, code), 5), "builtins.exec;"),
        "nested": (pickle.dumps({"latents": [{"x": Calls(os.system, command)}]}, 4), "system;"),
        "getattr": (pickle.dumps(Calls(getattr, "x", "upper"), 4), "builtins.getattr;"),
        "as a key": (b"\x80\x02}(" + b"cos\nsystem\nK\x01u.", "os.system;"),
        "inst": (f"(S'{command}'\nios\nsystem\n.".encode(), "the instruction STRING"),
        "inst-2": (b"\x80\x02(ios\nsystem\n.", "the instruction INST os system;"),
        "obj": (b"\x80\x02(cos\nsystem\no.", "os.system;"),
        "newobj": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the instruction NEWOBJ;"),
        "build": (b"\x80\x02}}b.", "the instruction BUILD;"),
        "extension": (b"\x80\x02\x82\x01.", "the instruction EXT1 1;"),
        "dotted": (b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.", "torch.os.system;"),
        "torch.load": (b"\x80\x02ctorch\nload\n(X\x01\0\0\0xtR.", "torch.load;"),
        "a long name": (b"\x80\x02c" + b"m" * 9999 + b"\nx\n.", "m" * 80 + ";"),
        "a name with colours": (b"\x80\x04\x8c\x04\x1b[2J\x8c\x02\nx\x93.", r"\x1b[2J.\nx;"),
        "a memo for the memory": (b"\x80\x02r\xff\xff\xff\xff.", "not a whole file"),
        "a text for the memory": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00abc.", "not a whole file"),
        "bytes for the memory": (
            b"\x80\x05\x96" + b"\xff" * 6 + b"\0\0abc.",
            "not a whole file",
        ),
    }


@pytest.mark.parametrize("kind", malice(""))
def test_malicious_pickles_run_nothing(file, tmp_path, kind):
    made = tmp_path / "made"
    data, said = malice(str(made))[kind]
    write_archive(file, data)
    assert said in refused(file)
    assert not made.exists()


def test_the_payload_of_these_tests_would_run(tmp_path):
    """In Python's own reader; so that the test before cannot pass for a dud."""
    made = tmp_path / "made"
    for kind in ("reduce", "stack-global", "eval", "exec", "nested"):
        pickle.loads(malice(str(made))[kind][0])
        assert made.exists(), kind
        made.unlink()


def test_a_pickle_in_its_storage_is_not_looked_at(file, tmp_path):
    made = tmp_path / "made"
    bomb = np.frombuffer(pickle.dumps(Calls(os.system, f"touch {made}")), np.uint8)
    write_pt(file, {"x": bomb})
    assert same(TorchFile(file).read("x"), bomb)
    assert not made.exists()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor(Storage("0", NUMBERS), 0, (25,), (1,)), "a tensor (25,) of 24 values"),
        (Tensor(Storage("0", NUMBERS), 1, (24,), (1,)), "a tensor (24,) of 24 values"),
        (Tensor(Storage("0", NUMBERS), 0, (2, 2), (24, 1)), "a tensor (2, 2) of 24 values"),
        (Tensor(Storage("0", NUMBERS), 0, (2, 2), (1,)), "a tensor (2, 2) of 24 values"),
        (Tensor(Storage("0", NUMBERS), 0, (2**30, 2**9), (0, 0)), "of 24 values"),
        (Tensor(Storage("0", NUMBERS), 0, (1,) * 9, (1,) * 9), "of 24 values"),
        (Tensor(Storage("0", NUMBERS), -1, (2,), (1,)), "that is no count"),
        (Tensor(Storage("0", NUMBERS), 0, (2,), (-1,)), "that is no count"),
        (Tensor(Storage("0", NUMBERS), 0, (True,), (1,)), "that is no count"),
        (Tensor(Storage("../../../etc/passwd", NUMBERS), 0, (2,), (1,)), "'../../../etc/passwd'"),
        (Tensor(Storage("/etc/passwd", NUMBERS), 0, (2,), (1,)), "the storage '/etc/passwd'"),
        (Tensor(Storage("0", NUMBERS, "Quint8"), 0, (2,), (1,)), "torch.Quint8Storage;"),
        (Tensor(Storage("0", NUMBERS, "Double"), 0, (2,), (1,)), "has 96 bytes of 192"),
    ],
)
def test_tensors_that_are_not_in_their_storage(file, tensor, said):
    write_pt(file, {"x": tensor})
    assert said in refused(file)


def rewritten(file: Path, change, *, compression: int = ZIP_STORED) -> None:
    """The file with its entries changed: bytes by name to the same."""
    with ZipFile(file) as archive:
        entries = change({name: archive.read(name) for name in archive.namelist()})
    with ZipFile(file, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def test_archives_that_torch_does_not_write(file):
    def said(change, **options) -> str:
        write_pt(file, {"x": NUMBERS})
        rewritten(file, change, **options)
        return refused(file)

    without = {"archive/data/0", "archive/data.pkl"}
    assert "no item named 'archive/data/0'" in said(
        lambda e: {k: v for k, v in e.items() if k not in without - {"archive/data.pkl"}}
    )
    assert "not one NAME/data.pkl" in said(
        lambda e: {k: v for k, v in e.items() if k not in without - {"archive/data/0"}}
    )
    assert "not one NAME/data.pkl" in said(lambda e: {**e, "b/data.pkl": e["archive/data.pkl"]})
    assert "not one NAME/data.pkl" in said(lambda e: {f"../{k}": v for k, v in e.items()})
    assert "is compressed or encrypted" in said(lambda e: e, compression=ZIP_DEFLATED)
    bomb = said(
        lambda e: {**e, "archive/data.pkl": b"\x80\x02" + b"0" * (200 << 20)},
        compression=ZIP_DEFLATED,
    )
    assert "is compressed or encrypted" in bomb
    assert "2097152 bytes, 1048576 would fit" in said(
        lambda e: {**e, "archive/data.pkl": bytes(2 << 20)}
    )
    assert "its byteorder is 'middle'" in said(lambda e: {**e, "archive/byteorder": b"middle"})


def test_sizes_in_the_archive_that_are_lies(file):
    """A directory that says a storage has 2 GB."""
    big = Tensor(Storage("0", np.broadcast_to(np.uint8(0), 2**31 - 1)), 0, (2**31 - 1,), (1,))
    write_archive(file, pickled({"x": big}), {"data/0": b"short"})
    data = bytearray(file.read_bytes())
    at = data.rindex(b"archive/data/0") - 46  # its entry in the directory
    data[at + 20 : at + 28] = struct.pack("<II", 2**31 - 1, 2**31 - 1)
    file.write_bytes(data)
    assert "says 2147483647 bytes" in refused(file)


def test_values_that_hang_python(file):
    """A tuple of twice a tuple of twice ...: nothing here looks at all of its 2^60 leaves."""
    deep = b")" + b"".join(b"q\x00h\x00\x86" for _ in range(60))
    write_archive(file, b"\x80\x02}(" + b"X\x01\0\0\0d" + deep + b"u.")
    assert TorchFile(file).metadata == {}
    write_archive(file, b"\x80\x02}(" + deep + b"K\x01u.")
    assert "has tuple for str" in refused(file)
    write_archive(file, b"\x80\x02" + b"(" * 100_000 + b".")
    refused(file)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a whole file of torch.save (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a whole file of torch.save"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest", "in the form of before torch 1.6;"),
        (pickle.dumps({"a": 1}), "not a whole file of torch.save"),
    ],
)
def test_files_that_are_no_archives(file, data, said):
    file.write_bytes(data)
    assert said in refused(file)


def test_values_that_are_no_mapping_and_files_that_are_not_there(file, tmp_path):
    assert "no such file or folder" in refused(file)
    write_archive(file, pickled((1, 2)))
    assert "it holds no mapping of names to tensors" in refused(file)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_is_a_user_error_or_does_not_matter(tmp_path_factory, data):
    source = (HERE / "conditions_by_torch.pt").read_bytes()
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(source), len(source) // 2]))]
    path = tmp_path_factory.mktemp("damage") / "a.pt"
    path.write_bytes(damaged)
    try:
        read_all(path)
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(code=st.binary(max_size=60))
def test_no_pickle_gets_further_than_a_user_error(tmp_path_factory, code):
    path = tmp_path_factory.mktemp("code") / "a.pt"
    write_archive(path, b"\x80\x02" + code + b".")
    try:
        TorchFile(path)
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
