"""Options and start-up that all tests share."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# For networks this small a second thread waits more than it works; read when BLAS is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ltx_models  # noqa: F401  (before mlx: it puts a fast BLAS in front)
from ltx_models.tiny import tiny_folder

GOLDEN = Path(__file__).parent / "parity" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", type=Path, default=GOLDEN, metavar="DIR", help="another folder of golden cases"
    )


def pytest_configure() -> None:
    """Take Ctrl-C also where a shell has the tests in the background, and ignores it for them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 100 kB, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stand-in's folder, made afresh for this run of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTX_MLX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_folder()
