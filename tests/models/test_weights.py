import json
import struct

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models.weights import TensorFile, WeightsError, load_weights, torch_layout


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


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such file"):
        TensorFile(tmp_path / "gone.safetensors")


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
    tensors = file.tensors("lin.", file.keys("lin."))
    assert tensors.keys() == {"weight"}
    sign, exponent, mantissa = codes >> 7, (codes >> 3) & 15, codes & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent.astype(int) - 7)
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal) * np.where(sign, -1, 1)
    got = np.array(tensors["weight"].astype(mx.float32))
    assert np.allclose(got, values * scale, rtol=2**-8)


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
