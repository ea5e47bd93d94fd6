"""What importing the package does to the process, asked of a fresh Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ltx_models

ROOT = Path(ltx_models.__file__).parents[1]
CODE = "import os, sys, ltx_models; print(os.environ['MLX_ENABLE_TF32'], 'mlx.core' in sys.modules)"


@pytest.mark.parametrize(("given", "wanted"), [(None, "0"), ("1", "1"), ("0", "0")])
def test_float32_products_keep_their_precision_unless_told_otherwise(given, wanted):
    environment = {key: value for key, value in os.environ.items() if key != "MLX_ENABLE_TF32"}
    if given is not None:
        environment["MLX_ENABLE_TF32"] = given
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [wanted, "False"]  # set before MLX reads it
