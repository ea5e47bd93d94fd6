"""Our reader of ``.pt`` files against torch's own writer."""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_train.data.torch_files import TorchFile

pytestmark = pytest.mark.interop

# Torch has a process to itself: it and MLX bring an OpenMP each.
WRITE = """
import collections, os, sys
import torch

folder = sys.argv[1] + "/"
base = torch.arange(120)
kinds = "bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 bool".split()
made = {kind: base.to(getattr(torch, kind)).reshape(2, 3, 4, 5) for kind in kinds}
made |= {
    "turned": made["bfloat16"].permute(3, 1, 0, 2),
    "part": made["float32"][1:, ::2, 1:3],
    "expanded": torch.ones(1, 4).expand(3, 4),
    "empty": torch.empty(0, 4),
    "one": torch.tensor(7.0),
    "parameter": torch.nn.Parameter(torch.ones(2, 2)),
}
plain = {"fps": 23.976, "num_frames": 2, "text": "ä", "yes": True, "size": torch.Size([1, 2])}
for protocol in (2, 3, 4, 5):
    torch.save({**made, **plain}, f"{folder}{protocol}.pt", pickle_protocol=protocol)
torch.save(collections.OrderedDict(made), folder + "ordered.pt")
torch.save(made, folder + "old.pt", _use_new_zipfile_serialization=False)
torch.save({"latents": torch.ones(3), "device": torch.device("cpu")}, folder + "device.pt")


class Malice:
    def __reduce__(self):
        return os.system, ("touch " + folder + "made",)


torch.save({"latents": torch.ones(3), "x": Malice()}, folder + "malice.pt")
wanted = {key: value.detach().to(torch.float64).contiguous().numpy() for key, value in made.items()}
import numpy
numpy.savez(folder + "wanted.npz", **wanted)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    subprocess.run([sys.executable, "-c", WRITE, folder], check=True)
    return folder


@pytest.mark.parametrize("name", ["2", "3", "4", "5", "ordered"])
def test_what_torch_writes_is_read(folder, name):
    file = TorchFile(folder / f"{name}.pt")
    wanted = np.load(folder / "wanted.npz")
    assert file.infos.keys() == set(wanted.files)
    for key in wanted.files:
        found = file.read(key)
        assert np.array_equal(np.array(found.astype(mx.float32)), wanted[key]), key
        assert found.shape == file.infos[key].shape == wanted[key].shape
    if name != "ordered":
        plain = {"fps": "23.976", "num_frames": "2", "text": "ä", "yes": "True"}
        assert file.metadata == plain


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("old", "in the form of before torch 1.6; torch.save"),
        ("device", "its pickle asks for torch.device; only tensors"),
        ("malice", "its pickle asks for posix.system; only tensors"),
    ],
)
def test_what_torch_writes_is_refused(folder, name, said):
    with pytest.raises(UserError) as error:
        TorchFile(folder / f"{name}.pt")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (folder / "made").exists()
