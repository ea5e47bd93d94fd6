"""What the networks are."""

from ltx_models import blas

blas.load()  # before any import of mlx.core, which binds its BLAS for good
