"""How a clip is made."""

import ltx_models  # noqa: F401  (before mlx: it puts a fast BLAS in front)
