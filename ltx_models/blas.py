"""A fast BLAS for MLX on a Linux CPU, loaded before MLX is.

The wheel of MLX for Linux CPUs carries the reference BLAS, whose float32 matrix products are some
thirty times slower than OpenBLAS's. Symbols of a library that is loaded globally come before those
of later ones, so it is enough to load another BLAS first (spec mlx 2.9).
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ltx_models.errors import UserError

OWN = "the wheel's own"
OPENCV_FOLDERS = ("opencv_python.libs", "opencv_python_headless.libs")


class Blas(NamedTuple):
    """What ``load`` did: a name for reports, and why LTX_BLAS could not be followed, if so."""

    name: str
    problem: str | None = None


@cache
def load() -> Blas:
    """Load what the variable LTX_BLAS asks for: a path, ``auto`` (as when unset) or ``none``.

    ``auto`` tries the system's OpenBLAS, the one inside opencv-python's wheel and MKL, and is
    quiet if there is none. Runs when ltx_models is imported, so it never raises: see ``check``.
    """
    wish = os.environ.get("LTX_BLAS") or "auto"
    if sys.platform != "linux":
        return Blas("Accelerate" if sys.platform == "darwin" else OWN)
    if wish == "none":
        return Blas(OWN)
    if "mlx.core" in sys.modules:
        late = "mlx was imported before ltx_models"
        return Blas(f"{OWN}, as {late}", None if wish == "auto" else f"LTX_BLAS={wish}: {late}")
    if wish != "auto":
        fault = _load_globally(str(Path(wish).expanduser()))
        return Blas(OWN, f"LTX_BLAS={wish}: {fault}") if fault else Blas(wish)
    return next((Blas(name) for name, path in _candidates() if not _load_globally(path)), Blas(OWN))


def loaded_blas() -> str:
    """The BLAS of MLX's CPU products, in words, as "OpenBLAS, opencv-python's"."""
    return load().name


def check() -> None:
    """Raise UserError if LTX_BLAS names a library that cannot be used; for commands to call."""
    if problem := load().problem:
        raise UserError(f"{problem}\nName another library, or LTX_BLAS=auto or none.")


def _candidates() -> Iterator[tuple[str, str]]:
    for soname in ("libopenblas.so.0", "libopenblas.so"):
        yield "OpenBLAS, the system's", soname
    spec = find_spec("cv2")  # finds the folder and does not import it
    if spec is not None and spec.origin is not None:
        packages = Path(spec.origin).parent.parent
        for folder in OPENCV_FOLDERS:
            for path in sorted((packages / folder).glob("libopenblas*")):
                yield "OpenBLAS, opencv-python's", str(path)
    for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")):
        yield "MKL", str(path)


def _load_globally(path: str) -> str | None:
    """Put a library's symbols in front of all later ones; what hinders it, or None."""
    try:
        library = ctypes.CDLL(path)
        if not hasattr(library, "cblas_sgemm"):  # NumPy's OpenBLAS calls it scipy_cblas_sgemm
            return "no BLAS with the usual names (cblas_sgemm)"
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None
