"""Benchmarks: ratios in one run, never part of the tests. ``python -m tests.bench``."""

import ltx_models  # noqa: F401  (before mlx: it puts a fast BLAS in front)
