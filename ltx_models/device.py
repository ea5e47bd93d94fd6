"""Where MLX computes: the type of number for it, and what to say when the machine has better.

MLX is imported inside the functions, so that ``--help`` does not pay for it and a broken
installation can be told from a broken program.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltx_models.errors import UserError

if TYPE_CHECKING:
    import mlx.core as mx

SHARE = 0.9  # of a machine without a GPU: the rest is for what else runs
# By words of MLX's messages, which for Metal have Apple's names of errors in them.
FAILURES = {
    ("impactinginteractivity", "impacting interactivity"): (
        "macOS stopped the GPU, as the display had to wait for it (Impacting Interactivity).\n"
        "Turn the display off and keep the Mac awake with caffeinate -i, close what else draws, or "
        "make the clip smaller or shorter"
    ),
    ("callbackerrortimeout", "gpu timeout", "callbackerrorhang"): (
        "macOS stopped the GPU, as one piece of work took too long.\n"
        "Make the clip smaller or shorter, or close other programs that use the GPU"
    ),
    (
        "callbackerroroutofmemory",
        "insufficient memory",
        "unable to allocate",
        "maximum allowed buffer size",
        "out of memory",
    ): (
        "there is not enough memory for this.\n"
        "What takes less: -q 4, --low-memory, --tiling aggressive, a smaller or shorter clip, "
        "--max-batch-size 1"
    ),
}
GPUS = Path("/proc/driver/nvidia/gpus")  # one folder for each GPU; WSL has nvidia-smi only


def compute_dtype() -> "mx.Dtype":
    """float32 where MLX computes on the CPU, whose bfloat16 is slower; bfloat16 on a GPU."""
    import mlx.core as mx  # noqa: PLC0415

    return mx.float32 if mx.default_device() == mx.cpu else mx.bfloat16


def prepare() -> None:
    """Let MLX keep freed buffers on a CPU, up to an eighth of the memory, as it does on a GPU.

    Its limit there is 32 MB, so that larger activations are mapped and zeroed anew for each
    operation, which takes ten times as long as the operation itself (docs/experiments.md).
    """
    import mlx.core as mx  # noqa: PLC0415
    import psutil  # noqa: PLC0415

    if mx.default_device() == mx.cpu:
        mx.set_cache_limit(psutil.virtual_memory().total // 8)


def machine_memory() -> int:
    """Bytes that a run may take here: a GPU's share of the memory, or most of a machine's."""
    import mlx.core as mx  # noqa: PLC0415
    import psutil  # noqa: PLC0415

    info: dict[str, Any] = mx.device_info()
    if "max_recommended_working_set_size" in info:  # Metal
        return int(info["max_recommended_working_set_size"])
    if mx.default_device() != mx.cpu and "memory_size" in info:
        return int(info["memory_size"])
    return int(SHARE * psutil.virtual_memory().total)


@contextmanager
def memory_limits(limit: int, *, cache: int | None = None) -> Iterator[None]:
    """Let MLX take so many bytes while the block runs, and keep them in memory.

    Its own limit on Metal is half as much again as fits, where a Mac begins to swap. ``cache`` is
    the most that it keeps of what was freed; None leaves that as it is. All is put back after.
    """
    import mlx.core as mx  # noqa: PLC0415

    before = mx.set_memory_limit(limit)
    wired = mx.set_wired_limit(limit) if mx.metal.is_available() else None
    kept = None if cache is None else mx.set_cache_limit(cache)
    try:
        yield
    finally:
        mx.set_memory_limit(before)
        if wired is not None:
            mx.set_wired_limit(wired)
        if kept is not None:
            mx.set_cache_limit(kept)


def explained(error: RuntimeError) -> str | None:
    """What an error of MLX's backend means and what helps, in two lines; None for any other."""
    said = str(error).lower()
    for signs, lines in FAILURES.items():
        if any(sign in said for sign in signs):
            return lines
    return None


def backend_notice() -> str | None:
    """One line if the machine has an NVIDIA GPU and MLX computes on the CPU, else None."""
    import mlx.core as mx  # noqa: PLC0415

    if mx.default_device() != mx.cpu or not _has_nvidia():
        return None
    return (
        "An NVIDIA GPU is present, but MLX computes on the CPU. To use it: "
        'pip uninstall -y mlx-cpu && pip install "mlx[cuda13]"'
    )


def require_mlx() -> None:
    """Import MLX, or raise UserError with one line that says what to install."""
    try:
        import mlx.core  # noqa: F401, PLC0415
    except ImportError as error:
        extra = ("[cuda13]" if _has_nvidia() else "[cpu]") if sys.platform == "linux" else ""
        raise UserError(f'MLX cannot be loaded ({error}): pip install "mlx{extra}"') from None


def _has_nvidia() -> bool:
    listed = GPUS.is_dir() and any(GPUS.iterdir())
    return listed or shutil.which("nvidia-smi") is not None
