"""Each test asks a fresh Python, since MLX binds its BLAS once and for all."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ltx_models import blas

ROOT = Path(blas.__file__).parents[1]
NO_BLAS = find_spec("pydantic_core._pydantic_core").origin
# The platform is said to be Linux, so that a Mac runs these tests as well.
LINUX = "import ctypes, importlib.util, json, pathlib, sys; sys.platform = 'linux'"
REPORT = """
from ltx_models import blas
from ltx_models.errors import UserError
try:
    blas.check()
    problem = None
except UserError as error:
    problem = str(error)
in_front = hasattr(ctypes.CDLL(None), "cblas_sgemm")
print(json.dumps([blas.loaded_blas(), problem, in_front]))
"""


def ask(wish: str | None, *, before: str = LINUX, code: str = REPORT) -> list:
    """Name, problem and whether the process's global symbols have a BLAS, under LTX_BLAS=wish."""
    environment = {key: value for key, value in os.environ.items() if key != "LTX_BLAS"}
    if wish is not None:
        environment["LTX_BLAS"] = wish
    command = [sys.executable, "-c", f"{before}\n{code}"]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return json.loads(run.stdout)


def a_blas() -> str:
    """Any library with cblas_sgemm: macOS's own, or the one that a dependency brings to Linux."""
    if sys.platform == "darwin":
        return "/System/Library/Frameworks/Accelerate.framework/Accelerate"
    packages = Path(find_spec("cv2").origin).parents[1]
    return str(next((packages / "opencv_python.libs").glob("libopenblas*")))


@pytest.mark.parametrize("wish", [None, "", "auto"])
def test_search_reports_what_it_put_in_front(wish):
    name, problem, in_front = ask(wish)
    assert problem is None
    assert in_front == (name != blas.OWN)
    assert name.startswith(("OpenBLAS, ", "MKL", blas.OWN))


def test_none_keeps_the_wheels_own():
    assert ask("none") == [blas.OWN, None, False]


def test_a_path_is_loaded():
    assert ask(a_blas()) == [a_blas(), None, True]


def test_what_is_in_front_computes_right():
    code = """
from ltx_models import blas
import mlx.core as mx
import numpy as np
a, b = (np.random.default_rng(seed).normal(size=(65, 65)).astype(np.float32) for seed in (0, 1))
print(json.dumps(float(np.abs(np.array(mx.array(a) @ mx.array(b)) - a @ b).max())))
"""
    assert ask(a_blas(), code=code) < 1e-4


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nowhere/libblas.so", "/nowhere/libblas.so"), (NO_BLAS, "cblas_sgemm")],
)
def test_a_path_that_is_no_blas_is_named_by_check_and_not_by_the_import(path, reason):
    name, problem, in_front = ask(path)
    assert name == blas.OWN
    assert problem.startswith(f"LTX_BLAS={path}: ")
    assert reason in problem.removeprefix(f"LTX_BLAS={path}: ")
    assert problem.endswith("Name another library, or LTX_BLAS=auto or none.")
    assert not in_front


LATE = f"{LINUX}; import mlx.core"


def test_after_mlx_it_is_too_late():
    name, problem, _ = ask("auto", before=LATE)
    assert name == f"{blas.OWN}, as mlx was imported before ltx_models"
    assert problem is None


def test_after_mlx_a_path_cannot_be_followed():
    _, problem, _ = ask(a_blas(), before=LATE)
    assert problem.startswith(f"LTX_BLAS={a_blas()}: mlx was imported before ltx_models\n")


def test_nothing_is_searched_on_a_mac():
    mac = LINUX.replace("'linux'", "'darwin'")
    assert ask("/nowhere/libblas.so", before=mac)[:2] == ["Accelerate", None]
