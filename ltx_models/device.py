"""Where MLX computes: the type of number for it, and what to say when the machine has better.

MLX is imported inside the functions, so that ``--help`` does not pay for it and a broken
installation can be told from a broken program.
"""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ltx_models.errors import UserError

if TYPE_CHECKING:
    import mlx.core as mx

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
