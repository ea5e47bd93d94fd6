"""The networks of a converted folder answer as the reference did: the golden cases, run on it."""

from dataclasses import replace

import numpy as np
import pytest

from ltx_models.converted.request import ConvertRequest
from ltx_models.converted.write import convert
from ltx_models.quantize import quantization
from tests.conftest import GOLDEN
from tests.parity.case import read_case, read_index
from tests.parity.components import COMPONENTS
from tests.parity.test_golden import compare

CHECKPOINTS = ("ltx2-tiny", "ltx2.3-tiny")
RUN = ("transformer", "vae_encode", "vae_decode", "audio_decode", "vocoder", "connectors")
# Of the velocity's size, in the transformer as a whole: random weights keep every error.
STATED = {quantization(8, group_size=32): 0.01, quantization(4): 0.15}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Both golden checkpoints, converted as they are."""
    root = tmp_path_factory.mktemp("converted")
    for name in CHECKPOINTS:
        convert(ConvertRequest(GOLDEN / f"{name}.safetensors", root / name, largest_file=300_000))
    return root


def cases():
    """The first case of each component and checkpoint."""
    found = {}
    for name, listed in read_index(GOLDEN)["cases"].items():
        if listed["component"] in RUN:
            found.setdefault((listed["component"], listed["checkpoint"]), name)
    return found


QUICK = ("transformer", "vae_decode")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if component in QUICK else pytest.mark.slow)
        for (component, _), name in cases().items()
    ],
)
def test_a_golden_case_on_a_converted_folder(folders, name):
    case = read_case(GOLDEN, name)
    stem = case.checkpoint_file.removesuffix(".safetensors")
    got = COMPONENTS[case.component](replace(case, folder=folders, checkpoint_file=stem))
    for key, want in case.expected.items():
        assert compare(np.asarray(got[key]), want, case.tolerance[key]) is None, key


@pytest.mark.parametrize(("how", "most"), STATED.items(), ids=str)
def test_a_quantised_folder_is_as_near_as_it_says(tmp_path, how, most):
    convert(ConvertRequest(GOLDEN / "ltx2.3-tiny.safetensors", tmp_path / "q", how=how))
    case = read_case(GOLDEN, cases()["transformer", "ltx23"])
    got = COMPONENTS["transformer"](replace(case, folder=tmp_path, checkpoint_file="q"))
    for key, want in case.expected.items():
        error = np.linalg.norm(np.asarray(got[key]) - want) / np.linalg.norm(want)
        assert most / 10 < error < most
