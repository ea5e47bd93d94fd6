import json
import os
import struct

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models.weights import (
    TensorFile,
    WeightsError,
    check_fit,
    load_weights,
    save_tensors,
    torch_layout,
)


def write(path, tensors, metadata=None):
    mx.save_safetensors(str(path), tensors, metadata)
    return path


@pytest.mark.parametrize(
    ("layer", "shape", "inside"),
    [
        (nn.Conv3d(2, 5, kernel_size=3), (5, 2, 3, 3, 3), (5, 3, 3, 3, 2)),
        (nn.Conv2d(2, 5, kernel_size=3), (5, 2, 3, 3), (5, 3, 3, 2)),
        (nn.Conv1d(2, 5, kernel_size=3), (5, 2, 3), (5, 3, 2)),
        (nn.ConvTranspose1d(2, 5, kernel_size=3), (2, 5, 3), (5, 3, 2)),
        (nn.Linear(2, 5), (5, 2), (5, 2)),
    ],
    ids=["Conv3d", "Conv2d", "Conv1d", "ConvTranspose1d", "Linear"],
)
def test_layers_take_and_give_pytorch_layout(layer, shape, inside):
    tensors = {"weight": mx.random.normal(shape), "bias": mx.zeros(5)}
    load_weights(layer, tensors, source="file")
    back = torch_layout(layer)
    assert mx.array_equal(back["weight"], tensors["weight"])
    assert layer.weight.shape == inside


def test_every_misfit_is_named_with_what_would_fit():
    tensors = {"weight": mx.ones((3, 3)), "bais": mx.ones(1)}
    with pytest.raises(WeightsError) as error:
        load_weights(nn.Linear(2, 3), tensors, source="a.safetensors")
    assert str(error.value).splitlines() == [
        "a.safetensors does not fit Linear:",
        "weight: (3, 3) in the file, (3, 2) would fit",
        "missing: bias (the file has bais)",
        "unknown: bais (nearest: bias)",
    ]


def test_many_misfits_are_counted_in_four_lines():
    tensors = {f"extra_{i}": mx.ones(1) for i in range(50)}
    with pytest.raises(WeightsError) as error:
        load_weights(nn.Linear(2, 3), tensors, source="a.safetensors")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "... and 50 more"


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, kernel_size=3)
        self.up = nn.ConvTranspose1d(2, 5, kernel_size=3)
        self.inner = nn.Linear(2, 3)


PARTS = {"": "a.", "inner.": "beside."}
FITTING = {
    "a.conv.weight": (5, 2, 3, 3),
    "a.conv.bias": (5,),
    "a.up.weight": (2, 5, 3),
    "a.up.bias": (5,),
    "beside.weight": (3, 2),
    "beside.bias": (3,),
}


def test_keys_and_shapes_of_a_file_that_fits():
    check_fit(Pair(), FITTING, source="f", parts=PARTS)
    pair = Pair()
    tensors = {key: mx.random.normal(shape) for key, shape in FITTING.items()}
    load_weights(pair, tensors, source="f", parts=PARTS)
    assert mx.array_equal(pair.inner.weight, tensors["beside.weight"])
    assert mx.array_equal(torch_layout(pair)["up.weight"], tensors["a.up.weight"])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        # Shapes are those that PyTorch would print, keys those of the file.
        ({"a.conv.weight": (5, 3, 3, 2)}, "a.conv.weight: (5, 3, 3, 2) in the file, (5, 2, 3, 3)"),
        ({"a.conv.weight": (5, 2)}, "a.conv.weight: (5, 2) in the file, (5, 2, 3, 3) would fit"),
        ({"a.up.weight": (5, 2, 3)}, "a.up.weight: (5, 2, 3) in the file, (2, 5, 3) would fit"),
        ({"beside.bias": None}, "missing: beside.bias"),
        ({"beside.bais": (3,)}, "unknown: beside.bais (nearest: beside.bias)"),
        # What lies where another part has its own prefix is not that part's.
        ({"a.inner.weight": (3, 2)}, "unknown: a.inner.weight"),
    ],
)
def test_misfits_are_named_as_in_the_file(changes, line):
    found = {key: shape for key, shape in (FITTING | changes).items() if shape is not None}
    with pytest.raises(WeightsError) as error:
        check_fit(Pair(), found, source="f.safetensors", parts=PARTS)
    first, second = str(error.value).splitlines()
    assert first == "f.safetensors does not fit Pair:"
    assert second.startswith(line)


@pytest.fixture
def closed(tmp_path):
    """A file that this process may not read; root, to whom all are open, is nobody meanwhile."""
    path = tmp_path / "a.safetensors"
    path.touch(mode=0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield path
    os.seteuid(before)


def test_a_file_that_may_not_be_read(closed):
    with pytest.raises(WeightsError, match=r"a\.safetensors: permission denied$"):
        TensorFile(closed)


def test_what_is_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such file or folder$"):
        TensorFile(tmp_path / "gone.safetensors")
    with pytest.raises(WeightsError, match=r": is a folder, a file is wanted$"):
        TensorFile(tmp_path)
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(WeightsError, match=r"ring: too many levels of symbolic links$"):
        TensorFile(tmp_path / "ring")


def test_a_full_disk_is_told(tmp_path, small_files):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match=r"a\.safetensors: cannot be written: .*File too large"):
        save_tensors(path, {"x": mx.ones((300, 300))})


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_truncated_file(tmp_path, keep):
    path = write(tmp_path / "a.safetensors", {"x": mx.ones(8)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        TensorFile(path)


def test_text_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("version https://example.invalid/lfs\n" * 3)
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        TensorFile(path)


def test_opening_and_asking_for_names_reads_no_tensor(tmp_path):
    path = write(tmp_path / "a.safetensors", {"a.x": mx.ones((1024, 1024)), "b.x": mx.ones(4)})
    mx.clear_cache()
    before = mx.get_active_memory()
    file = TensorFile(path)
    tensors = file.tensors("b.", file.keys("b."))
    mx.eval(tensors)
    assert mx.get_active_memory() - before < 2**16


def fp8_file(path, codes: np.ndarray, scale: np.ndarray | None, dtype: str = "F8_E4M3"):
    """A safetensors file by hand: MLX has no float8 type to save."""
    blobs = {"lin.weight": (dtype, codes.shape, codes.tobytes())}
    if scale is not None:
        blobs["lin.weight_scale"] = ("F32", scale.shape, scale.astype(np.float32).tobytes())
        blobs["lin.input_scale"] = ("F32", (), np.float32(1).tobytes())
    header, offset = {}, 0
    for key, (kind, shape, blob) in blobs.items():
        header[key] = {
            "dtype": kind,
            "shape": list(shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
    text = json.dumps(header).encode()
    data = b"".join(blob for *_, blob in blobs.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return TensorFile(path)


@given(st.lists(st.integers(0, 126), min_size=6, max_size=6), st.floats(0.01, 4))
def test_fp8_weights_are_multiplied_by_their_scale(tmp_path_factory, codes, scale):
    codes = np.array(codes, np.uint8).reshape(2, 3)
    path = tmp_path_factory.mktemp("fp8") / "a.safetensors"
    file = fp8_file(path, codes, np.array(scale))
    assert file.keys("lin.") == ["weight"]
    tensors = file.tensors("lin.", file.keys("lin."))
    assert tensors.keys() == {"weight"}
    sign, exponent, mantissa = codes >> 7, (codes >> 3) & 15, codes & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent.astype(int) - 7)
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal) * np.where(sign, -1, 1)
    assert tensors["weight"].dtype == mx.float32
    wanted = values.astype(np.float32) * np.float32(scale)
    assert np.array_equal(np.array(tensors["weight"]), wanted)  # not rounded to bfloat16 between


def test_fp8_scale_a_row(tmp_path):
    codes = np.full((2, 3), 56, np.uint8)  # the code of 1.0
    file = fp8_file(tmp_path / "a.safetensors", codes, np.array([[2.0], [4.0]]))
    weight = file.tensors("lin.", ["weight"])["weight"]
    assert weight.tolist() == [[2.0] * 3, [4.0] * 3]


def test_fp8_scale_that_fits_no_row(tmp_path):
    file = fp8_file(tmp_path / "a.safetensors", np.zeros((2, 3), np.uint8), np.ones(3))
    with pytest.raises(WeightsError, match=r"lin\.weight_scale has shape \(3,\).*one per row"):
        file.tensors("lin.", ["weight"])


def test_type_that_cannot_be_read_is_named(tmp_path):
    codes = np.zeros((2, 3), np.uint8)
    with pytest.raises(WeightsError, match=r"lin\.weight is F8_E5M2, 1 such in all; readable are"):
        fp8_file(tmp_path / "a.safetensors", codes, None, "F8_E5M2")
