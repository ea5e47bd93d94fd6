import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from ltx_models import device

ROOT = Path(device.__file__).parents[1]
CORE = Path(mx.__file__)  # MLX's extension module; its library lies in the folder beside it
INSTALL = 'pip uninstall -y mlx-cpu && pip install "mlx[cuda13]"'


@pytest.fixture(autouse=True)
def on_the_cpu():
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """A machine with ``gpus``, the list of its driver, and ``bin``, its PATH, both empty."""
    (tmp_path / "gpus").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(device, "GPUS", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_cpu_computes_in_float32():
    assert device.compute_dtype() == mx.float32


def test_gpu_computes_in_bfloat16_and_needs_no_notice(gpus, monkeypatch):
    (gpus / "gpus" / "0000:19:00.0").mkdir()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    assert device.compute_dtype() == mx.bfloat16
    assert device.backend_notice() is None


INTERACTIVITY = (
    "[METAL] Command buffer execution failed: Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (INTERACTIVITY, "macOS stopped the GPU, as the display had to wait for it"),
        (
            "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
            "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
            "macOS stopped the GPU, as one piece of work took too long",
        ),
        (
            "[METAL] Command buffer execution failed: Insufficient Memory "
            "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            "there is not enough memory",
        ),
        ("[malloc_or_wait] Unable to allocate 8589934592 bytes.", "there is not enough memory"),
    ],
)
def test_errors_of_a_gpu_are_explained(said, meant):
    lines = device.explained(RuntimeError(said))
    assert lines is not None
    assert lines.startswith(meant)
    assert len(lines.splitlines()) == 2
    assert device.explained(RuntimeError("[matmul] shapes do not fit")) is None


def test_freed_buffers_are_kept_on_a_cpu():
    """More of them than MLX's own 32 MB, in which no activation of a VAE has room."""
    before = mx.set_cache_limit(0)
    mx.clear_cache()
    try:
        device.prepare()
        freed = mx.zeros(2**24)  # 64 MB
        mx.eval(freed)
        del freed
        assert mx.get_cache_memory() >= 2**26
    finally:
        limit = mx.set_cache_limit(before)
        mx.clear_cache()
    assert limit < psutil.virtual_memory().total / 2


def test_no_gpu_no_notice(gpus):
    assert device.backend_notice() is None
    (gpus / "gpus").rmdir()
    assert device.backend_notice() is None


def test_a_gpu_that_lies_idle_is_told(gpus):
    (gpus / "gpus" / "0000:19:00.0").mkdir()
    notice = device.backend_notice()
    assert notice is not None
    assert INSTALL in notice
    assert "\n" not in notice


def test_nvidia_smi_tells_of_a_gpu_too(gpus):
    program = gpus / "bin" / "nvidia-smi"
    program.touch(mode=0o755)
    assert INSTALL in (device.backend_notice() or "")


def run(code: str, *, path: Path) -> str:
    """What a fresh Python prints whose first folder for imports is ``path``."""
    code = f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


ASK = """
from ltx_models import device
from ltx_models.errors import UserError
try:
    device.require_mlx()
except UserError as error:
    print(error)
else:
    print("loaded")
"""


def test_mlx_that_loads_is_no_error(tmp_path):
    assert run(ASK, path=tmp_path) == "loaded"


def test_mlx_without_its_library_says_what_to_install(tmp_path):
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "__init__.py").touch()  # a plain package hides the rest of the real one
    (tmp_path / "mlx" / CORE.name).write_bytes(CORE.read_bytes())
    answer = run(ASK, path=tmp_path)
    assert answer.startswith("MLX cannot be loaded (")
    assert "libmlx" in answer
    assert 'pip install "mlx' in answer
    assert "\n" not in answer


def test_naming_the_module_does_not_load_mlx(tmp_path):
    code = "import sys, ltx_models.device, ltx_models; print('mlx.core' in sys.modules)"
    assert run(code, path=tmp_path) == "False"


def test_memory_of_this_machine():
    assert 10**8 < device.machine_memory() < 10**14
