"""Pictures and videos of any length at a larger size, or with twice the frames, as ltx-upscale."""

from typing import Any

from ltx_infer.upscale.config import UpscaleConfig

__all__ = ["UpscaleConfig"]


def __getattr__(name: str) -> Any:
    """``upscale`` when it is asked for: what it imports is heavy, and --help imports this."""
    if name == "upscale":
        from ltx_infer.upscale.run import upscale  # noqa: PLC0415

        return upscale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
