"""How a clip is made; ``Pipeline`` is the same as ltx-generate, from Python."""

from typing import Any

import ltx_models  # noqa: F401  (before mlx: it puts a fast BLAS in front)


def __getattr__(name: str) -> Any:
    """Pipeline when it is asked for: what it imports is heavy, and --help imports this package."""
    if name == "Pipeline":
        from ltx_infer.api import Pipeline  # noqa: PLC0415

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
